"""Auxiliary targets: privileged positions that the encoder learns to read off the images in training only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from policy.normalize import mean_std_stats
from policy.spec import MeanStdStats
from trainer.cache import FrameCache


@dataclass(frozen=True)
class Auxiliary:
    """Which columns of the dataset's environment state are targets; never an input of the policy."""

    names: tuple[str, ...]
    index: np.ndarray  # int64 [P], columns of the environment state
    stats: MeanStdStats | None  # None without targets

    @classmethod
    def choose(
        cls, wanted: tuple[str, ...], names: tuple[str, ...], caches: Sequence[FrameCache]
    ) -> Auxiliary:
        """`wanted` are prefixes such as `goal`; of each, the position columns (x, y, z) are taken."""
        index = [
            i
            for i, name in enumerate(names)
            if name.rpartition("_")[0] in wanted and name[-2:] in ("_x", "_y", "_z")
        ]
        if not index:
            return cls((), np.zeros(0, np.int64), None)
        values = np.concatenate([cache.environment_state[:, index] for cache in caches])
        return cls(tuple(names[i] for i in index), np.asarray(index), mean_std_stats(values))
