"""Flags of `tinyvla compare`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from clients.rig_sim.parameters import DEFAULT_FILE
from clients.robots.metaworld_tasks import BUNDLED_TASKS
from policy.errors import UsageError
from trainer.evaluation.settings import EvaluateArgs

LETTERS = ("A", "B")


@dataclass(frozen=True)
class CompareArgs:
    """Compare two policies on the same episodes, in lock-step, with paired tests; and say whether that is fair."""

    first: tyro.conf.Positional[Path]
    """Policy A: a bundle, a checkpoint, or a run directory, whose best checkpoint is meant."""
    second: tyro.conf.Positional[Path]
    """Policy B."""
    out: Path = Path("runs/compare")
    """Directory of the results; the same command goes on where it was."""
    robot: Literal["metaworld", "needle-rig"] = "metaworld"
    tasks: Annotated[tuple[str, ...], tyro.conf.arg(aliases=["--task"])] = BUNDLED_TASKS
    """MetaWorld: tasks, or `all` for the 50."""
    episodes: int = 50
    """Episodes per task."""
    sensor: Literal["both", "on", "off"] = "both"
    """Needle rig: run every episode with the sensor, without, or once with and once without."""
    ddim_steps: int | None = None
    """Default each policy's own."""
    execute: int | None = None
    """Actions executed of each chunk; default 16 in MetaWorld and 4 on the needle rig, which is 5 chunks a second."""
    rig_parameters: Path = DEFAULT_FILE
    """Needle rig: another copy of the simulated rig's parameters."""
    film: bool = True
    """Film the first episode of each policy, as it sees it."""
    runtime: str = "auto"
    seed: int | None = None
    """As for `tinyvla evaluate`."""
    workers: int = max(1, os.cpu_count() or 1)


def place_of(path: Path) -> tuple[str, Path]:
    """("bundle" or "checkpoint", where it lies).

    Raises:
        UsageError: neither is there.
    """
    if (path / "policy.json").is_file():
        return "bundle", path
    for place in (path, path / "best"):
        if (place / "state.json").is_file():
            return "checkpoint", place
    raise UsageError(f"{path} is no policy bundle, no checkpoint, and no run with a checkpoint `best`")


def evaluation_of(args: CompareArgs, number: int, sensor: bool = True) -> EvaluateArgs:
    """The evaluation of policy 0 or 1, under a directory of its own."""
    kind, place = place_of((args.first, args.second)[number])
    name = LETTERS[number]
    if args.robot == "needle-rig":
        name += "-sensor-on" if sensor else "-sensor-off"
    return EvaluateArgs(
        out=args.out / name,
        robot=args.robot,
        bundle=place if kind == "bundle" else None,
        checkpoint=place if kind == "checkpoint" else None,
        tasks=args.tasks,
        episodes=args.episodes,
        ddim_steps=args.ddim_steps,
        execute=args.execute,
        sensor=sensor,
        rig_parameters=args.rig_parameters,
        runtime=args.runtime,
        seed=args.seed,
        workers=args.workers,
    )
