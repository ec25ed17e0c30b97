"""Per-episode statistics as lerobot's `compute_stats.py` defines them, and their sum over a dataset.

Quantiles are exact within an episode, where lerobot reads the same inverse of the cumulative count off a
histogram; over the dataset they are, as there, the mean of the episodes' quantiles weighted by count. The
standard deviation of images is the true one: lerobot 0.4.4 squares 8-bit pixels without widening them first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from clients.lerobot_v3.episode import decode_rgb

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
FeatureStats = dict[str, np.ndarray]

_MIN_SAMPLES, _MAX_SAMPLES, _POWER = 100, 10_000, 0.75


def vector_stats(values: np.ndarray) -> FeatureStats:
    """Statistics of [T, D] or [T] values per dimension, shape [D] or [1]."""
    rows = np.asarray(values, dtype=np.float64).reshape(len(values), -1)
    quantiles = np.quantile(rows, list(QUANTILES.values()), axis=0, method="inverted_cdf")
    return {
        "min": rows.min(axis=0),
        "max": rows.max(axis=0),
        "mean": rows.mean(axis=0),
        "std": rows.std(axis=0),
        "count": np.array([len(rows)]),
        **dict(zip(QUANTILES, quantiles, strict=True)),
    }


def image_stats(frames: Sequence[bytes]) -> FeatureStats:
    """Per-channel statistics in [0, 1], shape [3, 1, 1], from a subsample of the encoded frames."""
    chosen = sample_indices(len(frames))
    # 256 counts per channel hold everything that 8-bit statistics need, whatever the number of pixels.
    counts = np.zeros((3, 256), dtype=np.int64)
    for index in chosen:
        pixels = decode_rgb(frames[index]).reshape(-1, 3)
        for channel in range(3):
            counts[channel] += np.bincount(pixels[:, channel], minlength=256)
    per_channel = [_level_stats(channel_counts) for channel_counts in counts]
    stacked = {
        name: np.array([stats[name] for stats in per_channel]).reshape(3, 1, 1) for name in per_channel[0]
    }
    return {**stacked, "count": np.array([len(chosen)])}


def sample_indices(length: int) -> list[int]:
    """Evenly spread frames, as many as lerobot's `estimate_num_samples` asks for."""
    samples = max(min(length, _MIN_SAMPLES), min(int(length**_POWER), _MAX_SAMPLES))
    return [int(index) for index in np.round(np.linspace(0, length - 1, samples))]


def _level_stats(counts: np.ndarray) -> dict[str, float]:
    levels = np.arange(256) / 255.0
    total = counts.sum()
    present = np.flatnonzero(counts)
    mean = float((levels * counts).sum() / total)
    cumulative = np.cumsum(counts)
    return {
        "min": float(levels[present[0]]),
        "max": float(levels[present[-1]]),
        "mean": mean,
        "std": float(np.sqrt(((levels - mean) ** 2 * counts).sum() / total)),
        **{name: float(levels[np.searchsorted(cumulative, q * total)]) for name, q in QUANTILES.items()},
    }


class RunningStats:
    """Dataset statistics from episode statistics, one episode at a time, in constant memory."""

    def __init__(self) -> None:
        self._totals: dict[str, FeatureStats] = {}

    def add(self, episode: Mapping[str, FeatureStats]) -> None:
        for key, new in episode.items():
            total = self._totals.get(key)
            self._totals[key] = dict(new) if total is None else _merged(total, new)

    def result(self) -> dict[str, FeatureStats]:
        return self._totals


def _merged(a: FeatureStats, b: FeatureStats) -> FeatureStats:
    """Chan et al.'s parallel mean and variance; stable where a difference of squares is not."""
    count = a["count"] + b["count"]
    share = float(b["count"][0]) / float(count[0])
    step = b["mean"] - a["mean"]
    variance = a["std"] ** 2 * (1 - share) + b["std"] ** 2 * share + step**2 * share * (1 - share)
    merged = {
        "min": np.minimum(a["min"], b["min"]),
        "max": np.maximum(a["max"], b["max"]),
        "mean": a["mean"] + step * share,
        "std": np.sqrt(variance),
        "count": count,
    }
    return merged | {name: a[name] + (b[name] - a[name]) * share for name in QUANTILES}


def to_json(stats: Mapping[str, FeatureStats]) -> dict[str, dict[str, Any]]:
    return {key: {name: value.tolist() for name, value in of.items()} for key, of in stats.items()}


def from_json(stats: Mapping[str, Mapping[str, Any]]) -> dict[str, FeatureStats]:
    return {key: {name: np.array(value) for name, value in of.items()} for key, of in stats.items()}
