"""`tinyvla evaluate --robot needle-rig`: insertions on the simulated rig, in lock-step, on scenes never trained on."""

from __future__ import annotations

import dataclasses
import json
from functools import partial

from rich.console import Console

from clients.rig_sim.parameters import DEFAULT_FILE, load_parameters
from clients.robots.needle_rig_contract import TASK
from policy.checksums import file_hash
from policy.errors import UsageError
from policy.export.record_measured import record_measured
from policy.observation import SampleOptions, check_options
from policy.spec import PolicySpec
from trainer.evaluation.journal import Journal
from trainer.evaluation.report import sampling_steps
from trainer.evaluation.rig_actors import REFERENCES
from trainer.evaluation.rig_chart import draw_rig
from trainer.evaluation.rig_rollout import RigEpisode
from trainer.evaluation.rig_summary import RigRow, rig_markdown, rig_rows
from trainer.evaluation.rig_worker import RigJob, rig_views, run_rig_job
from trainer.evaluation.run_missing import keep_same_protocol, run_missing
from trainer.evaluation.settings import EvaluateArgs, check_flags
from trainer.evaluation.subject import check_unchanged, load_policy, policy_identity
from trainer.ray_cluster import RayCluster, with_absolute_paths


def _job_of(result: RigEpisode) -> RigJob:
    return RigJob(result.actor, result.episode)


def _run(args: EvaluateArgs, job: RigJob) -> RigEpisode:
    """One episode, in a worker process."""
    return run_rig_job(args, job)


def rig_protocol(args: EvaluateArgs, spec: PolicySpec) -> str:
    """What an evaluation did, for a reader of its figures."""
    shipped = args.rig_parameters.read_bytes() == DEFAULT_FILE.read_bytes()
    rig = "" if shipped else f", another rig ({args.rig_parameters.name})"
    return (
        f"{args.episodes} episodes, scenes {args.first_seed}–{args.first_seed + args.episodes - 1}, "
        f"sensor {'on' if args.sensor else 'off'}, {sampling_steps(spec, args.ddim_steps)} sampling steps, "
        f"{args.steps_per_chunk} of {spec.horizon} actions executed per chunk{rig}"
    )


def check_needle_rig(args: EvaluateArgs, spec: PolicySpec) -> None:
    """Raise UsageError or TinyVLAError for a policy that cannot do what is asked on the rig."""
    rig_views(spec)
    check_options(spec, SampleOptions(ddim_steps=args.ddim_steps))
    if args.steps_per_chunk > spec.horizon:
        raise UsageError(
            f"--execute {args.steps_per_chunk}: a chunk of {spec.name} has {spec.horizon} actions"
        )
    needed = [sensor.name for sensor in spec.sensors if not sensor.optional]
    if not args.sensor and needed:
        raise UsageError(
            f"{spec.name} was not trained to do without {needed[0]}; leave it on, or train with --sensor-dropout"
        )


def run_needle_rig(args: EvaluateArgs, console: Console) -> tuple[PolicySpec, list[RigEpisode]]:
    """Run what is missing; returns the policy's contract and every episode asked for."""
    check_flags(args)
    if args.bundle is None and args.checkpoint is None:
        raise UsageError("--robot needle-rig: give the policy's --bundle or --checkpoint")
    load_parameters(args.rig_parameters)  # a bad file shows here, once, and so does a bad bundle
    spec = load_policy(args).spec
    check_needle_rig(args, spec)
    identity = policy_identity(args, spec.label)
    keep_same_protocol(
        args.out,
        {
            **identity, "robot": args.robot, "ddim_steps": args.ddim_steps,
            "execute": args.steps_per_chunk, "seed": args.first_seed, "sensor": args.sensor,
            "instruction": args.instruction, "parameters": file_hash(args.rig_parameters),
        },
    )  # fmt: skip
    there = with_absolute_paths(args)
    cluster = RayCluster.of(args.ray, args.bundle, args.checkpoint, args.rig_parameters)
    actors = ("policy", *REFERENCES) if args.references else ("policy",)
    asked = [RigJob(actor, episode) for actor in actors for episode in range(args.episodes)]
    with Journal(args.out / "episodes.jsonl", RigEpisode) as journal:
        run_missing(partial(_run, there), asked, journal, _job_of, args.workers, console, cluster)
    check_unchanged(args, identity)
    done = {_job_of(result): result for result in journal.done}
    return spec, [done[job] for job in asked]


def evaluate_needle_rig(args: EvaluateArgs, console: Console | None = None) -> list[RigRow]:
    """Run what is missing and write episodes.jsonl, results.json, results.md and results.png under `args.out`."""
    console = console or Console()
    spec, episodes = run_needle_rig(args, console)
    rows = rig_rows(episodes)
    protocol = f"Simulation (needle rig), lock-step: {spec.label}, {rig_protocol(args, spec)}."
    table = f"{protocol}\n\n{rig_markdown(rows)}"
    (args.out / "results.md").write_text(table)
    summary = {
        "protocol": protocol,
        "policy": spec.label,
        "rows": [dataclasses.asdict(row) for row in rows],
    }
    (args.out / "results.json").write_text(json.dumps(summary, indent=1, allow_nan=False) + "\n")
    series = {row.actor: [e for e in episodes if e.actor == row.actor] for row in rows}
    draw_rig(series, args.out / "results.png", f"{spec.name}: needle insertion in simulation")
    console.print(table, markup=False, highlight=False, soft_wrap=True)
    if args.record and args.bundle is not None:
        own = next(row for row in rows if row.actor == "policy")
        told = {
            "task": TASK, "episodes": own.episodes, "successes": own.successes,
            "interval_95": [round(own.low, 3), round(own.high, 3)],
        }  # fmt: skip
        record_measured(
            args.bundle, f"simulation (needle rig), lock-step, {rig_protocol(args, spec)}", [told]
        )
    return rows
