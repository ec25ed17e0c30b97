"""Measurements of one stage in bounded memory: exact count, mean and maximum, percentiles of the newest."""

from __future__ import annotations

import numpy as np

# Newest values kept for percentiles: 13 minutes at 80 Hz.
CAPACITY = 65536


class Measurements:
    """Values added one at a time. One thread adds; reading from another is safe enough for a display."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._ring = np.zeros(min(capacity, 256), np.float64)
        self._added = 0  # to the ring; `count` and the others know of values that never were in it
        self.count = 0
        self.total = 0.0
        self.maximum = float("-inf")

    def add(self, value: float) -> None:
        """Add one value."""
        place = self._added % self._capacity
        if place >= len(self._ring):
            self._ring = np.concatenate([self._ring, np.zeros_like(self._ring)])[: self._capacity]
        self._ring[place] = value
        self._added += 1
        self.count += 1
        self.total += value
        self.maximum = max(self.maximum, value)

    @property
    def values(self) -> np.ndarray:
        """The values kept, in no particular order once the ring has wrapped."""
        return self._ring[: min(self._added, self._capacity)]

    def newest(self, most: int) -> np.ndarray:
        """At most that many of the newest values, in no particular order."""
        kept = min(self._added, self._capacity, most)
        return self._ring[np.arange(self._added - kept, self._added) % self._capacity]

    def merge(self, other: Measurements) -> None:
        """Add what another one measured: for percentiles the values it kept, for the rest all of them."""
        count, total = self.count + other.count, self.total + other.total
        for value in other.values:
            self.add(float(value))
        self.count, self.total, self.maximum = count, total, max(self.maximum, other.maximum)

    def summary(self) -> dict[str, float] | None:
        """`{count, mean, p50, p95, p99, max}`, or None when nothing was measured."""
        if not self.count:
            return None
        p50, p95, p99 = np.percentile(self.values, (50, 95, 99))
        return {
            "count": self.count,
            "mean": round(self.total / self.count, 4),
            "p50": round(float(p50), 4),
            "p95": round(float(p95), 4),
            "p99": round(float(p99), 4),
            "max": round(self.maximum, 4),
        }
