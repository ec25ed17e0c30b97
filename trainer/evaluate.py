"""`tinyvla evaluate`: closed-loop success in MetaWorld, in lock-step, in parallel processes, resumable."""

from __future__ import annotations

import json
from concurrent.futures import Future, as_completed

import tyro
from rich.console import Console

from clients.robots.metaworld_tasks import TASKS, task_name
from policy.checksums import file_hash
from policy.errors import UsageError
from policy.export.record_measured import record_measured
from policy.observation import SampleOptions, check_options
from trainer.evaluation.actors import REFERENCES
from trainer.evaluation.journal import Journal
from trainer.evaluation.report import measured_rows, protocol_of, write_report
from trainer.evaluation.rollout import EpisodeResult
from trainer.evaluation.settings import EvaluateArgs
from trainer.evaluation.subject import camera_setup, default_bundle, load_policy
from trainer.evaluation.summary import Row, rows_of
from trainer.evaluation.worker import Job, run_job
from trainer.progress_bars import episode_bars
from trainer.workers import simulation_workers


def _check_same(args: EvaluateArgs, label: str) -> None:
    """A results directory belongs to one policy and one protocol."""
    note = args.out / "protocol.json"
    protocol: dict[str, object] = {
        "policy": label, "ddim_steps": args.ddim_steps, "execute": args.execute, "seed": args.seed,
        "instruction": args.instruction,
    }  # fmt: skip
    if args.checkpoint is not None:  # the checkpoints of a run share their contract, and so its label
        from trainer.checkpoint import find_checkpoint

        protocol["weights"] = file_hash(find_checkpoint(args.checkpoint) / "ema.safetensors")
    if note.exists() and json.loads(note.read_text()) != protocol:
        raise UsageError(f"{args.out} holds results of another policy or protocol; choose another --out")
    args.out.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps(protocol))


def key_of(result: EpisodeResult) -> tuple[str, str, int]:
    """The job that a result answers."""
    return result.task, result.actor, result.episode


def _run_missing(
    args: EvaluateArgs, asked: list[Job], journal: Journal[EpisodeResult], console: Console
) -> None:
    done = {key_of(result) for result in journal.done}
    missing = [job for job in asked if job.key not in done]
    with episode_bars(console) as progress, simulation_workers(args.workers) as pool:
        bar = progress.add_task("episodes", total=len(asked), completed=len(asked) - len(missing))
        futures: list[Future[EpisodeResult]] = [pool.submit(run_job, args, job) for job in missing]
        try:
            for future in as_completed(futures):
                journal.add(future.result())
                progress.advance(bar)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def evaluate(args: EvaluateArgs, console: Console | None = None) -> list[Row]:
    """Run what is missing and write episodes.jsonl, results.json, results.md and results.png under `args.out`."""
    console = console or Console()
    if args.episodes < 1 or args.execute < 1 or args.workers < 1:
        raise UsageError("--episodes, --execute and --workers must be at least 1")
    if args.record and args.checkpoint is not None:
        raise UsageError("--record writes into a bundle; export the checkpoint first")
    names = [part for item in args.tasks for part in item.split(",") if part]
    tasks = list(TASKS) if names == ["all"] else list(dict.fromkeys(task_name(name) for name in names))
    policy = load_policy(args)  # a bad bundle shows here, once
    spec = policy.spec
    camera_setup(spec)
    check_options(spec, SampleOptions(ddim_steps=args.ddim_steps))
    if args.execute > spec.horizon:
        raise UsageError(f"--execute {args.execute}: a chunk of {spec.name} has {spec.horizon} actions")
    _check_same(args, spec.label)
    actors = ("policy", *REFERENCES) if args.references else ("policy",)

    asked = [Job(task, actor, e) for task in tasks for actor in actors for e in range(args.episodes)]
    with Journal(args.out / "episodes.jsonl", EpisodeResult) as journal:
        _run_missing(args, asked, journal, console)
    done = {key_of(result): result for result in journal.done}
    rows = rows_of(done[job.key] for job in asked)
    write_report(args, spec, rows, actors, console)
    if args.record:
        protocol = f"simulation (MetaWorld), lock-step, {protocol_of(args, spec)}"
        record_measured(args.bundle or default_bundle(), protocol, measured_rows(rows))
    return rows


def main(argv: list[str]) -> int:
    """Entry of `tinyvla evaluate`."""
    evaluate(tyro.cli(EvaluateArgs, args=argv, prog="tinyvla evaluate"))
    return 0
