"""Flags of `tinyvla evaluate`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from clients.robots.metaworld_tasks import BUNDLED_TASKS


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
    record: bool = False
    """Write the result into the bundle's contract and model card; the policy keeps its name and hash."""
    runtime: str = "auto"
    seed: int = 0
    workers: int = max(1, os.cpu_count() or 1)
