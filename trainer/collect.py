"""`tinyvla collect`: demonstrations from MetaWorld's scripted experts, in parallel, exactly reproducible, resumable."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
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

from clients.lerobot_v3 import DatasetFacts, finalize_dataset, stage_episode, staged_keys
from clients.lerobot_v3.atomic import writable
from clients.lerobot_v3.opening import load_json
from clients.robots import metaworld_sim
from clients.robots.metaworld_tasks import BUNDLED_TASKS, TASKS, task_name
from policy.bundle import load_bundle, read_spec
from policy.errors import UsageError
from trainer.evaluation.actors import PolicyActor
from trainer.expert import RolloutSettings, demonstrate, make_expert
from trainer.workers import simulation_workers

# An expert that fails this often in a row is not going to fill a dataset.
_HOPELESS_ATTEMPTS = 60


@dataclass
class CollectArgs:
    """Record demonstrations from MetaWorld's scripted experts into a LeRobotDataset v3.0.

    Only successful episodes are kept. The same arguments give the same files, byte for byte, whatever the number
    of workers; a run that was killed goes on where it was when the same command is given again.
    """

    out: Path
    """Directory of the dataset."""
    tasks: Annotated[tuple[str, ...], tyro.conf.arg(aliases=["--task"])] = BUNDLED_TASKS
    """Tasks, such as `reach pick-place`, or `all` for the 50."""
    episodes: int = 100
    """Successful episodes per task; `TASK=N` in --tasks overrides it for one task."""
    cameras: tuple[str, ...] = metaworld_sim.DEFAULT_CAMERAS
    """MetaWorld camera names."""
    size: int = 128
    """Height and width of the images, pixels."""
    noise: float = 1.0
    """Largest random push, as a fraction of the action range (the pushed action is executed, the clean one stored)."""
    reopen: bool = True
    """Correct experts that leave a closed, empty gripper closed."""
    image_every: int = 4
    """Control steps (1/80 s) per recorded frame; every control step's action is stored."""
    quality: int = 95
    """JPEG quality, without chroma subsampling; 0 stores PNG."""
    takeover: Path | None = None
    """A policy bundle that drives first, so that the expert shows the way out of where the policy gets to."""
    takeover_within: int = 240
    """With --takeover: the expert takes over after a random number of control steps up to this."""
    seed: int = 0
    """Everything follows from it."""
    workers: int = max(1, os.cpu_count() or 1)
    """Processes."""


@dataclass(frozen=True)
class _Job:
    task: str
    attempt: int

    @property
    def key(self) -> str:
        return f"{self.task}-{self.attempt:06d}"


def attempt_seed(seed: int, task: str, attempt: int) -> int:
    """The seed of one attempt: independent of every other attempt, task and worker."""
    return int(np.random.SeedSequence([seed, zlib.crc32(task.encode()), attempt]).generate_state(1)[0])


def _failed_marker(root: Path, key: str) -> Path:
    return root / ".staging" / f"{key}.failed"


_WORKER: dict[str, tuple] = {}
_DRIVERS: dict[Path, PolicyActor] = {}


def _driver(bundle: Path | None) -> PolicyActor | None:
    """The driving policy of this process, on one thread."""
    if bundle is None:
        return None
    if bundle not in _DRIVERS:
        _DRIVERS[bundle] = PolicyActor(load_bundle(bundle, threads=1), execute=16, ddim_steps=None)
    return _DRIVERS[bundle]


def _run(args: CollectArgs, job: _Job, settings: RolloutSettings) -> bool:
    """One attempt, in a worker process; leaves a staged episode or a failure marker behind."""
    if job.task not in _WORKER:
        for _, renderer, _ in _WORKER.values():
            renderer.close()
        _WORKER.clear()
        sim = metaworld_sim.MetaWorldSim(job.task, args.cameras, args.size)
        _WORKER[job.task] = (sim, sim.make_renderer(), make_expert(job.task))
    sim, renderer, expert = _WORKER[job.task]
    seed = attempt_seed(args.seed, job.task, job.attempt)
    attempt = demonstrate(sim, renderer, expert, seed, settings, _driver(args.takeover))
    if attempt.episode is None:
        _failed_marker(args.out, job.key).touch()
    else:
        stage_episode(args.out, job.key, attempt.episode)
    return attempt.success


@dataclass
class _TaskProgress:
    """Which attempts of a task are done; decides which is next and when the task is full."""

    task: str
    wanted: int
    outcome: dict[int, bool]
    next_attempt: int = 0

    def kept(self) -> list[int] | None:
        """The first `wanted` successes in order of attempt, or None while earlier attempts are still open."""
        kept: list[int] = []
        for attempt in range(len(self.outcome) + 1):
            if len(kept) == self.wanted:
                return kept
            if attempt not in self.outcome:
                return None
            if self.outcome[attempt]:
                kept.append(attempt)
        return None

    def jobs(self) -> Iterator[_Job]:
        """Attempts to make, for as long as the task is not full."""
        while sum(self.outcome.values()) < self.wanted or self.next_attempt <= max(self.outcome):
            if self.next_attempt not in self.outcome:
                yield _Job(self.task, self.next_attempt)
            self.next_attempt += 1

    def check(self) -> None:
        if len(self.outcome) >= _HOPELESS_ATTEMPTS and not any(self.outcome.values()):
            raise UsageError(
                f"the expert of {self.task} failed {len(self.outcome)} times in a row; use less --noise"
            )


def parse_tasks(tasks: tuple[str, ...], episodes: int) -> dict[str, int]:
    """`("reach", "push=20")` -> `{"reach": episodes, "push": 20}`; `all` stands for the 50 tasks."""
    wanted: dict[str, int] = {}
    for entry in [part for item in tasks for part in item.split(",") if part]:
        name, _, count = entry.partition("=")
        if count and not count.isdigit():
            raise UsageError(f"--tasks {entry}: {count!r} is not a number of episodes")
        for task in TASKS if name == "all" else [task_name(name)]:
            wanted[task] = int(count) if count else episodes
    if not wanted or min(wanted.values()) < 1:
        raise UsageError("nothing to collect: give at least one task and one episode")
    return wanted


def _check_flags(args: CollectArgs) -> None:
    """Raise UsageError for the first flag whose value cannot work."""
    rules = [
        ("workers", args.workers >= 1, "1 or more"),
        ("size", args.size >= 1, "1 or more"),
        ("image_every", 1 <= args.image_every <= metaworld_sim.MAX_STEPS, f"1 ... {metaworld_sim.MAX_STEPS}"),
        ("noise", 0 <= args.noise < float("inf"), "0 or more"),
        ("quality", 0 <= args.quality <= 100, "0 ... 100"),
        ("seed", args.seed >= 0, "0 or more"),
        ("cameras", 0 < len(args.cameras) == len(set(args.cameras)), "at least one name, none of them twice"),
    ]
    for name, holds, wanted in rules:
        if not holds:
            raise UsageError(f"--{name.replace('_', '-')} must be {wanted}, got {getattr(args, name)}")


def _check_resumable(root: Path, settings: dict) -> bool:
    """True when the dataset is already complete; refuses to mix two different collections."""
    note = root / ".staging" / "settings.json"
    done = root / "meta" / "info.json"
    if done.exists():
        if (load_json(done).get("tinyvla") or {}).get("collect") == settings:
            return True
        raise UsageError(f"{root} already holds another dataset; give --out an empty directory")
    if note.exists():
        if load_json(note) != settings:
            raise UsageError(
                f"{root} holds a part of a collection made with other settings; use those or another --out"
            )
        return False
    temporary = note.with_suffix(".tmp")
    if root.exists() and any(path.is_file() and path != temporary for path in root.rglob("*")):
        raise UsageError(f"{root} is not empty and holds no dataset; give --out an empty directory")
    with writable(note):
        note.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(settings))
        temporary.replace(note)
    return False


def collect(args: CollectArgs, console: Console | None = None) -> None:
    """Fill `args.out` with a dataset.

    Raises:
        UsageError: unknown task or camera, a directory in use for something else, or a worker that died.
    """
    console = console or Console()
    wanted = parse_tasks(args.tasks, args.episodes)
    within = args.takeover_within if args.takeover is not None else 0
    rollout = RolloutSettings(args.noise, args.image_every, args.quality, args.reopen, within)
    settings = {
        "tasks": wanted, "cameras": list(args.cameras), "size": args.size, "seed": args.seed, **asdict(rollout),
    }  # fmt: skip
    if args.takeover is None:
        del settings["takeover_within"]
    else:
        settings["takeover"] = read_spec(args.takeover).label
    _check_flags(args)
    # Bad input and a missing GL library show here, once, and before anything is written.
    sim = metaworld_sim.MetaWorldSim(next(iter(wanted)), args.cameras, args.size)
    sim.make_renderer().close()
    sim.close()
    if _check_resumable(args.out, settings):
        console.print(f"{args.out} is already complete")
        return

    staged = staged_keys(args.out)
    keys: list[str] = []
    columns = (
        TextColumn("{task.description:<24}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TextColumn("ETA"), TimeRemainingColumn(),
    )  # fmt: skip
    with (
        Progress(*columns, console=console) as progress,
        simulation_workers(args.workers) as pool,
    ):
        overall = progress.add_task("all tasks", total=sum(wanted.values()))
        try:
            for task, count in wanted.items():
                state = _TaskProgress(task, count, _outcomes(args.out, task, staged))
                bar = progress.add_task(task, total=count, completed=min(count, sum(state.outcome.values())))
                before = progress.tasks[overall].completed

                def show(
                    state: _TaskProgress = state, bar=bar, before: float = before, count: int = count
                ) -> None:
                    successes = min(count, sum(state.outcome.values()))
                    progress.update(bar, completed=successes)
                    progress.update(overall, completed=before + successes)

                show()
                jobs = state.jobs()
                pending: dict[Future, _Job] = {}
                while state.kept() is None:
                    while len(pending) < 2 * args.workers and (job := next(jobs, None)) is not None:
                        future = pool.submit(_run, args, job, rollout)
                        pending[future] = job
                    for future in wait(pending, return_when=FIRST_COMPLETED).done:
                        state.outcome[pending.pop(future).attempt] = future.result()
                    state.check()
                    show()
                keys += [_Job(task, attempt).key for attempt in state.kept() or []]
        except BrokenProcessPool:
            raise UsageError(
                "a worker process died (out of memory?); give the same command again to go on"
            ) from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    finalize_dataset(args.out, keys, _facts(args, settings))
    console.print(f"{len(keys)} episodes in {args.out}")


def _outcomes(root: Path, task: str, staged: set[str]) -> dict[int, bool]:
    """Attempts already made by an earlier run of the same command."""
    done = {int(key.rpartition("-")[2]): True for key in staged if key.rpartition("-")[0] == task}
    for marker in (root / ".staging").glob(f"{task}-*.failed"):
        name, _, attempt = marker.stem.rpartition("-")
        if name == task:
            done[int(attempt)] = False
    return done


def _facts(args: CollectArgs, settings: dict) -> DatasetFacts:
    return DatasetFacts(
        cameras=dict.fromkeys(args.cameras, (args.size, args.size)),
        state_names=metaworld_sim.STATE_NAMES,
        action_names=metaworld_sim.ACTION_NAMES,
        environment_state_names=metaworld_sim.ENVIRONMENT_STATE_NAMES,
        fps=metaworld_sim.CONTROL_RATE_HZ / args.image_every,
        control_rate_hz=metaworld_sim.CONTROL_RATE_HZ,
        actions_per_frame=args.image_every,
        robot_type="metaworld",
        free={"collect": settings},
    )


def main(argv: list[str]) -> int:
    """Entry of `tinyvla collect`."""
    collect(tyro.cli(CollectArgs, args=argv, prog="tinyvla collect"))
    return 0
