"""`tinyvla sweep`: success against inference delay for each chunk policy, in simulated time, resumable."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from clients.chunk_buffer import CHUNK_POLICIES, ChunkPolicy
from clients.episode_settings import ReceiverSettings
from clients.inprocess import InProcessClient
from clients.robots.metaworld import MetaWorldRobot
from clients.robots.metaworld_tasks import task_names
from clients.simulated_time import SimulatedClock
from policy.bundle import load_bundle
from policy.errors import UsageError
from policy.observation import SampleOptions, check_options
from policy.spec import PolicySpec
from service.flags import parse_flags
from trainer.evaluation.delayed_rollout import DelayedEpisode, run_delayed_episode
from trainer.evaluation.journal import Journal
from trainer.evaluation.report import sampling_steps
from trainer.evaluation.run_missing import keep_same_protocol, run_missing
from trainer.evaluation.subject import camera_setup, default_bundle
from trainer.evaluation.sweep_chart import draw_sweep
from trainer.evaluation.sweep_table import Cell, cells_of, markdown
from trainer.evaluation.worker import episode_seed

DELAYS_MS = (0.0, 50.0, 100.0, 200.0, 400.0, 800.0)
# Hard enough that a late or torn plan shows, and none that fails for reasons of its own.
TASKS = ("drawer-open", "button-press-topdown", "door-open", "reach")


@dataclass(frozen=True)
class SweepArgs:
    """Measure what inference delay costs each chunk policy. The simulator's clock waits for nobody."""

    out: Path = Path("runs/sweep")
    """Directory of the results; the same command goes on where it was."""
    bundle: Path | None = None
    """Policy bundle; default the one shipped with the repository."""
    tasks: Annotated[tuple[str, ...], tyro.conf.arg(aliases=["--task"])] = TASKS
    episodes: int = 25
    """Episodes per task in every cell."""
    delays: tuple[float, ...] = DELAYS_MS
    """Milliseconds from an observation to its chunk."""
    chunk_policies: tuple[ChunkPolicy, ...] = CHUNK_POLICIES
    inference_rate: float = 5.0
    """Chunks asked for per second, at most."""
    ddim_steps: int | None = None
    """Default the policy's own."""
    runtime: str = "auto"
    seed: int = 0
    workers: int = max(1, os.cpu_count() or 1)


@dataclass(frozen=True)
class _Job:
    task: str
    chunk_policy: ChunkPolicy
    delay_ms: float
    episode: int


class _Workplace:
    """What a worker process keeps from one episode to the next."""

    def __init__(self) -> None:
        self.clock = SimulatedClock()
        self._client: InProcessClient | None = None
        self._robot: MetaWorldRobot | None = None

    def client(self, args: SweepArgs) -> InProcessClient:
        if self._client is None:
            self._client = InProcessClient(load_bundle(_bundle(args), args.runtime, threads=1))
        return self._client

    def robot(self, task: str, spec: PolicySpec) -> MetaWorldRobot:
        if self._robot is None or self._robot.info.task != task:
            if self._robot is not None:
                self._robot.close()
            cameras, size = camera_setup(spec)
            self._robot = MetaWorldRobot(task, cameras=cameras, size=size, clock=self.clock)
        return self._robot


_PLACE = _Workplace()


def _run(args: SweepArgs, job: _Job) -> DelayedEpisode:
    """One episode, in a worker process."""
    client = _PLACE.client(args)
    spec = client.spec()
    return run_delayed_episode(
        _PLACE.robot(job.task, spec),
        _PLACE.clock,
        client,
        spec,
        ReceiverSettings(
            inference_rate_hz=args.inference_rate,
            chunk_policy=job.chunk_policy,
            ddim_steps=args.ddim_steps,
            seed=args.seed,
        ),
        delay_ms=job.delay_ms,
        episode=job.episode,
        seed=episode_seed(args.seed, job.task, job.episode),
    )


def _bundle(args: SweepArgs) -> Path:
    return args.bundle or default_bundle()


def _check(args: SweepArgs, spec: PolicySpec) -> None:
    if args.episodes < 1 or args.workers < 1:
        raise UsageError("--episodes and --workers must be at least 1")
    if args.seed < 0:
        raise UsageError(f"--seed must be 0 or more, got {args.seed}")
    if not task_names(args.tasks) or not args.chunk_policies:
        raise UsageError("--tasks and --chunk-policies need a name each")
    if not all(0 <= delay <= 60_000 for delay in args.delays) or not args.delays:
        raise UsageError("--delays: expected milliseconds from 0 to 60000")
    if not 0.01 <= args.inference_rate <= 1000:
        raise UsageError(f"--inference-rate: expected 0.01 ... 1000, got {args.inference_rate:g}")
    if "rtc" in args.chunk_policies and not spec.max_prefix:
        raise UsageError(
            f"{spec.name} was not trained to continue a prefix; leave rtc out of --chunk-policies"
        )
    camera_setup(spec)
    check_options(spec, SampleOptions(ddim_steps=args.ddim_steps))


def sweep(args: SweepArgs, console: Console | None = None) -> list[Cell]:
    """Run what is missing; leave episodes.jsonl, sweep.json, sweep.md and sweep.png under `args.out`."""
    console = console or Console()
    tasks = task_names(args.tasks)
    spec = load_bundle(_bundle(args), args.runtime, threads=1).spec  # a bad bundle shows here, once
    _check(args, spec)
    keep_same_protocol(
        args.out,
        {
            "policy": spec.label, "inference_rate": args.inference_rate, "ddim_steps": args.ddim_steps,
            "seed": args.seed,
        },
    )  # fmt: skip
    # Task by task, so that a worker seldom changes its scene; cells fill evenly.
    jobs = [
        _Job(task, chunk_policy, delay, episode)
        for task in tasks
        for episode in range(args.episodes)
        for chunk_policy in dict.fromkeys(args.chunk_policies)
        for delay in dict.fromkeys(args.delays)
    ]
    with Journal(args.out / "episodes.jsonl", DelayedEpisode) as journal:
        run_missing(partial(_run, args), jobs, journal, _job_of, args.workers, console)
        asked = set(jobs)
        episodes = [result for result in journal.done if _job_of(result) in asked]
    cells = cells_of(episodes)
    steps = sampling_steps(spec, args.ddim_steps)
    protocol = (
        f"Simulation (MetaWorld) in simulated time, 80 Hz control, at most {args.inference_rate:g} chunks a "
        f"second: {spec.label}, {len(tasks)} tasks ({', '.join(tasks)}), {args.episodes} episodes each on goals "
        f"never trained on, {steps} sampling steps, seed {args.seed}."
    )
    table = markdown(cells, protocol)
    (args.out / "sweep.md").write_text(table)
    summary = {
        "protocol": protocol,
        "policy": spec.label,
        "cells": [dataclasses.asdict(cell) for cell in cells],
    }
    (args.out / "sweep.json").write_text(json.dumps(summary, indent=1, allow_nan=False) + "\n")
    draw_sweep(cells, args.out / "sweep.png", f"{spec.name}: what inference delay costs, in simulation")
    console.print(table, markup=False, highlight=False, soft_wrap=True)
    return cells


def _job_of(result: DelayedEpisode) -> _Job:
    return _Job(result.task, result.chunk_policy, result.delay_ms, result.episode)


def main(argv: list[str]) -> int:
    """Entry of `tinyvla sweep`."""
    sweep(parse_flags(SweepArgs, argv, "tinyvla sweep"))
    return 0
