"""Which rows of several streams belong together: by time, within a tolerance, never by their number or name."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np


def nearest(times: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """int64 [N]: the row of `times` (ascending, at least one) nearest to each of `wanted`."""
    right = np.clip(np.searchsorted(times, wanted), 1, max(1, len(times) - 1))
    right = np.minimum(right, len(times) - 1)
    left = np.maximum(right - 1, 0)
    return np.where(wanted - times[left] <= times[right] - wanted, left, right)


def within(times: np.ndarray, wanted: np.ndarray, tolerance: float) -> np.ndarray:
    """bool, the shape of `wanted`: whether `times` has a row within `tolerance` seconds."""
    if not len(times):
        return np.zeros(np.shape(wanted), bool)
    return np.abs(times[nearest(times, wanted)] - wanted) <= tolerance


def match_streams(streams: Sequence[np.ndarray], tolerance: float) -> np.ndarray:
    """int64 [N, S]: rows that belong to one instant, each row used once.

    A row of the first stream is matched where every other stream has one within `tolerance` seconds of it that is
    nearer to no other row of the first.
    """
    first = streams[0]
    if any(not len(times) for times in streams):
        return np.zeros((0, len(streams)), np.int64)
    matched = np.ones(len(first), bool)
    columns = [np.arange(len(first))]
    for times in streams[1:]:
        rows = nearest(times, first)
        mutual = nearest(first, times[rows]) == np.arange(len(first))
        matched &= mutual & (np.abs(times[rows] - first) <= tolerance)
        columns.append(rows)
    return np.stack(columns, 1)[matched]


def runs(follows: np.ndarray) -> list[slice]:
    """Stretches of N + 1 rows, where `follows` [N] says whether row n + 1 goes on from row n."""
    edges = [0, *(np.flatnonzero(~np.asarray(follows, bool)) + 1).tolist(), len(follows) + 1]
    return [slice(first, end) for first, end in pairwise(edges)]


def usable_runs(usable: np.ndarray) -> list[slice]:
    """Stretches of rows that are usable, of `usable` [N]."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], usable, [False]]).astype(np.int8)))
    return [slice(int(first), int(end)) for first, end in edges.reshape(-1, 2)]
