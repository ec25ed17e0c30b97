"""Flags of `tinyvla evaluate`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from clients.rig_sim.parameters import DEFAULT_FILE
from clients.robots.metaworld_tasks import BUNDLED_TASKS
from policy.errors import UsageError

# Five chunks a second: at 80 Hz, and at the needle rig's 20 Hz.
_EXECUTE = {"metaworld": 16, "needle-rig": 4}
_SEED = {"metaworld": 0, "needle-rig": 1000}


@dataclass(frozen=True)
class EvaluateArgs:
    """Measure a policy's success in simulation on scenes never trained on; the simulator waits for the policy."""

    out: Path = Path("runs/evaluate")
    """Directory of the results; the same command goes on where it was."""
    robot: Literal["metaworld", "needle-rig"] = "metaworld"
    bundle: Path | None = None
    """Policy bundle; default, for MetaWorld, the one shipped with the repository."""
    checkpoint: Path | None = None
    """A training checkpoint instead of a bundle."""
    weights: Annotated[
        Literal["ema", "model"], tyro.conf.arg(help="averaged or raw weights of --checkpoint")
    ] = "ema"
    tasks: Annotated[tuple[str, ...], tyro.conf.arg(aliases=["--task"])] = BUNDLED_TASKS
    """MetaWorld: tasks, or `all` for the 50."""
    episodes: int = 50
    """Episodes per task."""
    ddim_steps: int | None = None
    """Default the policy's own."""
    execute: int | None = None
    """Actions executed of each chunk; default 16 in MetaWorld and 4 on the needle rig, which is 5 chunks a second."""
    instruction: str | None = None
    """Give this text for every task instead of the task's own."""
    sensor: bool = True
    """Needle rig: whether the policy is shown the sensor."""
    rig_parameters: Path = DEFAULT_FILE
    """Needle rig: another copy of the simulated rig's parameters."""
    references: bool = False
    """Also run the floors (zero action, random) and the ceiling (scripted expert)."""
    record: bool = False
    """Write the result into the bundle's contract and model card; the policy keeps its name and hash."""
    runtime: str = "auto"
    seed: int | None = None
    """Default 0 in MetaWorld. On the needle rig episode i is the scene of seed + i, default 1000."""
    workers: int | None = None
    """Processes; default one per processor, of the whole cluster with --ray."""
    ray: str | None = None
    """Work on a Ray cluster: its address, `auto`, or `local` for one of this machine's own."""

    @property
    def steps_per_chunk(self) -> int:
        """Actions executed of each chunk."""
        return _EXECUTE[self.robot] if self.execute is None else self.execute

    @property
    def first_seed(self) -> int:
        """`seed`, or the robot's default."""
        return _SEED[self.robot] if self.seed is None else self.seed


def check_flags(args: EvaluateArgs) -> None:
    """Raise UsageError for flags that cannot work, or are another robot's."""
    if args.robot == "metaworld":
        if not args.sensor:
            raise UsageError("--no-sensor is for --robot needle-rig; MetaWorld has no sensors")
        if args.rig_parameters != DEFAULT_FILE:
            raise UsageError("--rig-parameters is for --robot needle-rig")
    elif args.tasks != BUNDLED_TASKS:
        raise UsageError("--tasks is for MetaWorld; the needle rig has one task of its own")
    if args.episodes < 1 or args.steps_per_chunk < 1 or (args.workers is not None and args.workers < 1):
        raise UsageError("--episodes, --execute and --workers must be at least 1")
    if args.first_seed < 0:
        raise UsageError(f"--seed must be 0 or more, got {args.first_seed}")
    if args.weights != "ema" and args.checkpoint is None:
        raise UsageError("--weights is for --checkpoint; a bundle holds the weights it was exported with")
    if args.record and args.checkpoint is not None:
        raise UsageError("--record writes into a bundle; export the checkpoint first")
