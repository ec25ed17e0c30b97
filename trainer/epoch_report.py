"""What is said of an epoch: one line for people, named scalars for TensorBoard."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class EpochReport:
    """The figures of one epoch."""

    epoch: int  # from 0
    loss: float
    validation: float  # NaN without held-out episodes
    auxiliary: float
    gradient_norm: float  # mean over the epoch's steps, before clipping
    learning_rate: float
    memory_mb: float
    samples_per_second: float
    position_errors: dict[str, float]  # by auxiliary target, in its unit
    skipped: int  # batches skipped since the start of the run
    position_units: dict[str, str] = field(default_factory=dict)  # metres where it is not said
    validation_without_sensors: float = math.nan  # NaN of policies that always have them
    success: dict[str, float] = field(default_factory=dict)  # share of episodes by task, where they were run

    def scalars(self) -> dict[str, float]:
        """Names as TensorBoard shows them."""
        return {
            "loss/train": self.loss,
            "loss/validation": self.validation,
            "loss/auxiliary": self.auxiliary,
            "gradient_norm": self.gradient_norm,
            "learning_rate": self.learning_rate,
            "memory_mb": self.memory_mb,
            "samples_per_second": self.samples_per_second,
            **{
                f"error_{self.position_units.get(name, 'm')}/{name}": error
                for name, error in self.position_errors.items()
            },
            **(
                {}
                if math.isnan(self.validation_without_sensors)
                else {"loss/validation_without_sensors": self.validation_without_sensors}
            ),
            **{f"success/{task}": share for task, share in self.success.items()},
            **({"success/mean": self.mean_success} if self.success else {}),
        }

    @property
    def mean_success(self) -> float:
        """Mean over the tasks that were run in closed loop."""
        return float(np.mean(list(self.success.values())))

    def line(self) -> str:
        """`Epoch 03 | Loss: 0.4321 | Val: 0.45 | ...`"""
        blind = self.validation_without_sensors
        without = [] if math.isnan(blind) else [f"Val without sensors: {blind:.4f}"]
        parts = [
            f"Epoch {self.epoch + 1:02d}",
            f"Loss: {self.loss:.4f}",
            f"Val: {self.validation:.4f}",
            *without,
            f"Grad: {self.gradient_norm:.2f}",
            f"LR: {self.learning_rate:.1e}",
            f"Mem: {self.memory_mb:.0f}MB",
            f"{self.samples_per_second:.0f} samples/s",
        ]
        if self.position_errors:
            parts.append(f"Position error: {self._position_error()}")
        if self.success:
            parts.append(f"Success: {100 * self.mean_success:.0f} %")
        if self.skipped:
            parts.append(f"Skipped: {self.skipped}")
        return " | ".join(parts)

    def _position_error(self) -> str:
        """The mean over the targets of each unit."""
        by_unit: dict[str, list[float]] = {}
        for name, error in self.position_errors.items():
            by_unit.setdefault(self.position_units.get(name, "m"), []).append(error)
        means = {unit: float(np.mean(errors)) for unit, errors in by_unit.items()}
        return ", ".join(
            f"{100 * mean:.1f} cm" if unit == "m" else f"{mean:.3f} {unit}" for unit, mean in means.items()
        )
