"""Flags of the ablations, and where each result lies."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trainer.sweep import TASKS

Group = Literal["prediction", "temperature", "prefix", "ema", "crops", "noise", "head"]
GROUPS: tuple[Group, ...] = ("prediction", "temperature", "prefix", "ema", "crops", "noise", "head")


@dataclass(frozen=True)
class AblationArgs:
    """Train and measure variants of a small policy, one choice changed at a time; the same command goes on."""

    out: Path = Path("runs/ablations")
    """Data, runs and results; ablations.md and ablations.json."""
    only: tuple[Group, ...] = GROUPS
    """Choices to vary."""
    tasks: tuple[str, ...] = TASKS
    """MetaWorld tasks, trained on and evaluated."""
    episodes: int = 50
    """Evaluation episodes per task, variant and seed."""
    seeds: tuple[int, ...] = (0, 1)
    """Of the training; the goals of the evaluation are the same for all."""
    epochs: int = 9
    demonstrations: int = 150
    """Per task."""
    cameras: tuple[str, ...] = ("corner4",)
    size: int = 96
    """Height and width of the images, pixels."""
    hidden_dim: int = 192
    layers: int = 4
    batch_size: int = 64
    lr: float = 7e-4
    delay_ms: float = 200.0
    """From an observation to its chunk, where prefixes are to show what they are for."""
    workers: int = max(1, os.cpu_count() or 1)
    """Processes that collect and evaluate."""
    plan: bool = False
    """Say what would be done and how long it takes, and stop."""

    def data(self, kind: str) -> Path:
        """A dataset."""
        return self.out / "data" / kind

    def run(self, training: str, seed: int) -> Path:
        """A training; the name tells `tinyvla calibrate` one run from another."""
        return self.out / "trained" / f"{training}-seed{seed}"

    def measured(self, variant: str, seed: int) -> Path:
        """An evaluation."""
        return self.out / "evaluated" / f"{variant}-seed{seed}"

    def fixed(self) -> dict[str, object]:
        """What every result under `out` has in common."""
        names = ("epochs", "demonstrations", "size", "hidden_dim", "layers", "batch_size", "lr", "delay_ms")
        return {
            **{name: getattr(self, name) for name in names},
            "tasks": list(self.tasks),
            "cameras": list(self.cameras),
        }


def frames_of(dataset: Path) -> int | None:
    """Frames of a dataset; None until it is complete."""
    info = dataset / "meta" / "info.json"
    return int(json.loads(info.read_text())["total_frames"]) if info.exists() else None
