"""What is said of an epoch: one line for people, named scalars for TensorBoard."""

from __future__ import annotations

from dataclasses import dataclass

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
    position_errors: dict[str, float]  # metres, by auxiliary target
    skipped: int  # batches skipped since the start of the run

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
            **{f"error_m/{name}": error for name, error in self.position_errors.items()},
        }

    def line(self) -> str:
        """`Epoch 03 | Loss: 0.4321 | Val: 0.45 | ...`"""
        parts = [
            f"Epoch {self.epoch + 1:02d}",
            f"Loss: {self.loss:.4f}",
            f"Val: {self.validation:.4f}",
            f"Grad: {self.gradient_norm:.2f}",
            f"LR: {self.learning_rate:.1e}",
            f"Mem: {self.memory_mb:.0f}MB",
            f"{self.samples_per_second:.0f} samples/s",
        ]
        if self.position_errors:
            parts.append(
                f"Position error: {100 * float(np.mean(list(self.position_errors.values()))):.1f} cm"
            )
        if self.skipped:
            parts.append(f"Skipped: {self.skipped}")
        return " | ".join(parts)
