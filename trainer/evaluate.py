"""`tinyvla evaluate`: closed-loop success in MetaWorld, in lock-step, in parallel processes, resumable."""

from __future__ import annotations

import dataclasses
import json
import os
import zlib
from concurrent.futures import Future, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from clients.robots import metaworld_sim
from clients.robots.metaworld_tasks import BUNDLED_TASKS, TASKS, task_name
from policy.bundle import file_hash, load_bundle
from policy.errors import UsageError
from policy.observation import SampleOptions, check_options
from policy.predictor import Predictor
from policy.spec import PolicySpec
from trainer.evaluation.actors import REFERENCES, Actor, PolicyActor, ReferenceActor
from trainer.evaluation.chart import bar_chart
from trainer.evaluation.rollout import EpisodeResult, run_episode
from trainer.evaluation.summary import Row, macro_mean, markdown, per_task_mean, rows_of
from trainer.workers import simulation_workers

# Evaluation seeds live in a space of their own: no goal here was ever drawn for training.
_EVALUATION = 0xE7A1


@dataclass(frozen=True)
class EvaluateArgs:
    """Measure a policy's success in MetaWorld on goals never trained on; the simulator waits for the policy."""

    out: Path = Path("runs/evaluate")
    """Directory of the results; the same command goes on where it was."""
    bundle: Path | None = None
    """Policy bundle; default the one shipped with the repository."""
    checkpoint: Path | None = None
    """A training checkpoint instead of a bundle."""
    tasks: Annotated[tuple[str, ...], tyro.conf.arg(aliases=["--task"])] = BUNDLED_TASKS
    """Tasks, or `all` for the 50."""
    episodes: int = 50
    """Episodes per task."""
    ddim_steps: int | None = None
    """Default the policy's own."""
    execute: int = 16
    """Actions executed of each chunk; 16 is the cadence of 5 chunks a second at 80 Hz."""
    instruction: str | None = None
    """Give this text for every task instead of the task's own."""
    references: bool = False
    """Also run the floors (zero action, random) and the ceiling (scripted expert)."""
    runtime: str = "auto"
    seed: int = 0
    workers: int = max(1, os.cpu_count() or 1)


@dataclass(frozen=True)
class _Job:
    task: str
    actor: str
    episode: int

    @property
    def key(self) -> tuple[str, str, int]:
        return self.task, self.actor, self.episode


_STATE: dict[str, object] = {}


def load_policy(args: EvaluateArgs) -> Predictor:
    """The policy of `--bundle` or `--checkpoint`, on one thread."""
    if args.checkpoint is not None:
        from policy.loaded import LoadedPolicy
        from policy.runtimes.eager import EagerBackend
        from trainer.checkpoint import load_checkpoint

        found = load_checkpoint(args.checkpoint)
        return LoadedPolicy(found.spec, EagerBackend(found.build(), "cpu", threads=1))
    return load_bundle(args.bundle or default_bundle(), args.runtime, threads=1)


def default_bundle() -> Path:
    """The bundle shipped with the repository."""
    return Path(__file__).resolve().parent.parent / "bundles" / "metaworld8"


def episode_seed(seed: int, task: str, episode: int) -> int:
    """Seed of an evaluation episode; the same for every actor, so that they face the same goals."""
    sequence = np.random.SeedSequence([_EVALUATION, seed, zlib.crc32(task.encode()), episode])
    return int(sequence.generate_state(1)[0]) % 2**31


def _close_scene() -> None:
    renderer = _STATE.pop("renderer", None)
    if renderer is not None:
        renderer.close()  # type: ignore[attr-defined]


def _run(args: EvaluateArgs, job: _Job) -> EpisodeResult:
    """One episode, in a worker process."""
    if job.actor == "policy" and "policy" not in _STATE:
        _STATE["policy"] = load_policy(args)
    policy: Predictor | None = _STATE.get("policy")  # type: ignore[assignment]
    if _STATE.get("task") != job.task:
        _close_scene()
        cameras: tuple[str, ...] = metaworld_sim.DEFAULT_CAMERAS
        size = 128
        if policy is not None:
            cameras, size = camera_setup(policy.spec)
        sim = metaworld_sim.MetaWorldSim(job.task, cameras, size)
        _STATE.update(task=job.task, sim=sim, renderer=sim.make_renderer())
    actor: Actor
    if job.actor == "policy":
        assert policy is not None
        actor = PolicyActor(policy, args.execute, args.ddim_steps, args.instruction)
    else:
        actor = ReferenceActor(job.actor)
    seed = episode_seed(args.seed, job.task, job.episode)
    return run_episode(_STATE["sim"], _STATE["renderer"], actor, job.actor, job.episode, seed)  # type: ignore[arg-type]


def camera_setup(spec: PolicySpec) -> tuple[tuple[str, ...], int]:
    """Cameras and image size that the simulator must render for a policy."""
    if tuple(spec.state.names) != metaworld_sim.STATE_NAMES or spec.action.dim != len(
        metaworld_sim.ACTION_NAMES
    ):
        raise UsageError(
            f"policy {spec.name} is not for MetaWorld: its state is {', '.join(spec.state.names)}"
        )
    return tuple(camera.name for camera in spec.cameras), max(camera.height for camera in spec.cameras)


def _read_done(path: Path) -> dict[tuple[str, str, int], EpisodeResult]:
    """Results of an earlier, interrupted run; a half-written last line is dropped."""
    done = {}
    if path.exists():
        for line in path.read_text().splitlines():
            try:
                result = EpisodeResult(**json.loads(line))
            except (json.JSONDecodeError, TypeError):
                continue
            done[result.task, result.actor, result.episode] = result
    return done


def _line(result: EpisodeResult) -> str:
    return json.dumps(dataclasses.asdict(result)) + "\n"


def _write_done(path: Path, done: dict[tuple[str, str, int], EpisodeResult]) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join(map(_line, done.values())))
    temporary.replace(path)


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


def evaluate(args: EvaluateArgs, console: Console | None = None) -> list[Row]:
    """Run what is missing and write episodes.jsonl, results.json, results.md and results.png under `args.out`."""
    console = console or Console()
    if args.episodes < 1 or args.execute < 1 or args.workers < 1:
        raise UsageError("--episodes, --execute and --workers must be at least 1")
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

    path = args.out / "episodes.jsonl"
    done = _read_done(path)
    _write_done(path, done)  # what follows is appended, and must not continue a half-written line
    jobs = [_Job(task, actor, e) for task in tasks for actor in actors for e in range(args.episodes)]
    missing = [job for job in jobs if job.key not in done]
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TextColumn("ETA"), TimeRemainingColumn(),
    )  # fmt: skip
    with (
        Progress(*columns, console=console) as progress,
        simulation_workers(args.workers) as pool,
        path.open("a") as log,
    ):
        bar = progress.add_task("episodes", total=len(jobs), completed=len(jobs) - len(missing))
        futures: dict[Future, _Job] = {pool.submit(_run, args, job): job for job in missing}
        try:
            for future in as_completed(futures):
                result = future.result()
                done[result.task, result.actor, result.episode] = result
                log.write(_line(result))
                log.flush()
                progress.advance(bar)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    rows = rows_of(done[job.key] for job in jobs)
    _report(args, spec, rows, actors, console)
    return rows


def _report(
    args: EvaluateArgs, spec: PolicySpec, rows: list[Row], actors: tuple[str, ...], console: Console
) -> None:
    steps = args.ddim_steps or (spec.sampler.default_steps if spec.sampler else 1)
    protocol = (
        f"Simulation (MetaWorld), lock-step: {spec.label}, {args.episodes} episodes a task on goals never trained on, "
        f"{steps} sampling steps, {args.execute} of {spec.horizon} actions executed per chunk, seed {args.seed}."
    )
    (args.out / "results.md").write_text(markdown(rows, protocol))
    summary = {
        "protocol": protocol,
        "policy": spec.label,
        "rows": [dataclasses.asdict(row) for row in rows],
        "mean_over_tasks": {actor: per_task_mean(rows, actor) for actor in actors},
        "mean_over_difficulty_groups": {actor: macro_mean(rows, actor) for actor in actors},
    }
    (args.out / "results.json").write_text(json.dumps(summary, indent=1) + "\n")
    bar_chart(rows, args.out / "results.png", f"{spec.name}: success in simulation, Wilson 95 % intervals")
    table = Table("task", "actor", "success", "rate", "95 % interval", "steps", "return")
    for row in rows:
        table.add_row(
            row.task, row.actor, f"{row.successes}/{row.episodes}", f"{100 * row.rate:.0f} %",
            f"{100 * row.low:.0f}–{100 * row.high:.0f} %", f"{row.mean_steps or 0:.0f}", f"{row.mean_return:.0f}",
        )  # fmt: skip
    console.print(table)
    for actor in actors:
        console.print(f"{actor}: mean over tasks {100 * per_task_mean(rows, actor):.1f} %")


def main(argv: list[str]) -> int:
    """Entry of `tinyvla evaluate`."""
    evaluate(tyro.cli(EvaluateArgs, args=argv, prog="tinyvla evaluate"))
    return 0
