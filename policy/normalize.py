"""Normalisation, in the one place that training, export, serving and tests all use."""

from __future__ import annotations

import numpy as np

from policy.spec import MeanStdStats, RangeStats

# A dimension that never varies in the data gets this half-range, so that it maps to 0 and back exactly.
_DEGENERATE = 1e-6


def _center_and_half_range(stats: RangeStats) -> tuple[np.ndarray, np.ndarray]:
    low = np.asarray(stats.minimum, np.float32)
    high = np.asarray(stats.maximum, np.float32)
    half = (high - low) / 2
    return (low + high) / 2, np.where(half < _DEGENERATE, 1.0, half).astype(np.float32)


def to_unit(values: np.ndarray, stats: RangeStats) -> np.ndarray:
    """Map physical values [..., D] so that the training data's range becomes [-1, 1]."""
    center, half = _center_and_half_range(stats)
    return ((np.asarray(values, np.float32) - center) / half).astype(np.float32)


def from_unit(values: np.ndarray, stats: RangeStats) -> np.ndarray:
    """Inverse of `to_unit`."""
    center, half = _center_and_half_range(stats)
    return (np.asarray(values, np.float32) * half + center).astype(np.float32)


def standardize(values: np.ndarray, stats: MeanStdStats) -> np.ndarray:
    """Map a sensor window [..., C] to zero mean and unit variance per channel."""
    std = np.maximum(np.asarray(stats.std, np.float32), _DEGENERATE)
    return ((np.asarray(values, np.float32) - np.asarray(stats.mean, np.float32)) / std).astype(np.float32)


def mean_std_stats(values: np.ndarray) -> MeanStdStats:
    """Per-dimension mean and standard deviation of [N, D]."""
    wide = np.asarray(values, np.float64)
    return MeanStdStats(mean=tuple(wide.mean(0).tolist()), std=tuple(wide.std(0).tolist()))


def range_stats(values: np.ndarray) -> RangeStats:
    """Per-dimension minimum and maximum of [N, D]."""
    return RangeStats(
        minimum=tuple(float(v) for v in values.min(0)), maximum=tuple(float(v) for v in values.max(0))
    )
