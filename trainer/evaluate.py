"""`tinyvla evaluate`: closed-loop success in simulation, in lock-step, in parallel processes, resumable."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from rich.console import Console

from clients.robots.metaworld_tasks import task_names
from policy.errors import UsageError
from policy.export.record_measured import record_measured
from policy.observation import SampleOptions, check_options
from policy.spec import PolicySpec
from service.flags import parse_flags
from trainer.evaluate_needle_rig import evaluate_needle_rig
from trainer.evaluation.actors import REFERENCES
from trainer.evaluation.journal import Journal
from trainer.evaluation.report import measured_rows, protocol_of, write_report
from trainer.evaluation.rollout import EpisodeResult
from trainer.evaluation.run_missing import keep_same_protocol, run_missing
from trainer.evaluation.settings import EvaluateArgs, check_flags
from trainer.evaluation.subject import (
    camera_setup,
    check_unchanged,
    default_bundle,
    load_policy,
    policy_identity,
)
from trainer.evaluation.summary import Row, rows_of
from trainer.evaluation.worker import Job, run_job
from trainer.ray_cluster import RayCluster, with_absolute_paths


def job_of(result: EpisodeResult) -> Job:
    """The job that a result answers."""
    return Job(result.task, result.actor, result.episode)


def _run(args: EvaluateArgs, job: Job) -> EpisodeResult:
    """One episode, in a worker process."""
    return run_job(args, job)


def check_metaworld(args: EvaluateArgs, spec: PolicySpec) -> None:
    """Raise UsageError or TinyVLAError for a policy that cannot do what is asked in MetaWorld."""
    camera_setup(spec)
    check_options(spec, SampleOptions(ddim_steps=args.ddim_steps))
    if args.steps_per_chunk > spec.horizon:
        raise UsageError(
            f"--execute {args.steps_per_chunk}: a chunk of {spec.name} has {spec.horizon} actions"
        )


def run_metaworld(
    args: EvaluateArgs, console: Console
) -> tuple[PolicySpec, tuple[str, ...], list[EpisodeResult]]:
    """Run what is missing; returns the policy's contract, who acted, and every episode asked for."""
    check_flags(args)
    tasks = task_names(args.tasks)
    if not tasks:
        raise UsageError("--tasks names no task")
    spec = load_policy(args).spec  # a bad bundle shows here, once
    check_metaworld(args, spec)
    identity = policy_identity(args, spec.label)
    keep_same_protocol(
        args.out,
        {
            **identity, "ddim_steps": args.ddim_steps, "execute": args.steps_per_chunk,
            "seed": args.first_seed, "instruction": args.instruction,
        },
    )  # fmt: skip
    there = with_absolute_paths(replace(args, bundle=args.bundle or default_bundle()))
    cluster = RayCluster.of(args.ray, args.checkpoint or there.bundle)
    actors = ("policy", *REFERENCES) if args.references else ("policy",)
    asked = [Job(task, actor, e) for task in tasks for actor in actors for e in range(args.episodes)]
    with Journal(args.out / "episodes.jsonl", EpisodeResult) as journal:
        run_missing(partial(_run, there), asked, journal, job_of, args.workers, console, cluster)
    check_unchanged(args, identity)
    done = {job_of(result): result for result in journal.done}
    return spec, actors, [done[job] for job in asked]


def evaluate(args: EvaluateArgs, console: Console | None = None) -> list[Row]:
    """Run what is missing and write episodes.jsonl, results.json, results.md and results.png under `args.out`."""
    console = console or Console()
    spec, actors, results = run_metaworld(args, console)
    rows = rows_of(results)
    write_report(args, spec, rows, actors, console)
    if args.record:
        protocol = f"simulation (MetaWorld), lock-step, {protocol_of(args, spec)}"
        record_measured(args.bundle or default_bundle(), protocol, measured_rows(rows))
    return rows


def main(argv: list[str]) -> int:
    """Entry of `tinyvla evaluate`."""
    args = parse_flags(EvaluateArgs, argv, "tinyvla evaluate")
    if args.robot == "needle-rig":
        evaluate_needle_rig(args)
    else:
        evaluate(args)
    return 0
