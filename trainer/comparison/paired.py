"""Paired tests of two policies that faced the same episodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

import numpy as np

_RESAMPLES = 10_000
# With fewer pairs the percentile bootstrap is too sure of itself: of two pairs it only ever draws three means.
FEWEST = 6


@dataclass(frozen=True)
class SuccessPairs:
    """Episodes by who succeeded, and McNemar's exact test of whether the two differ."""

    both: int
    only_first: int
    only_second: int
    neither: int
    p_value: float  # two-sided


def compare_success(first: Sequence[bool], second: Sequence[bool]) -> SuccessPairs:
    """McNemar's test in its exact, binomial form: of the episodes that only one of them won, which one won them."""
    pairs = list(zip(first, second, strict=True))
    only_first = sum(a and not b for a, b in pairs)
    only_second = sum(b and not a for a, b in pairs)
    torn, fewer = only_first + only_second, min(only_first, only_second)
    tail = sum(comb(torn, k) for k in range(fewer + 1)) / 2**torn
    return SuccessPairs(
        both=sum(a and b for a, b in pairs),
        only_first=only_first,
        only_second=only_second,
        neither=sum(not a and not b for a, b in pairs),
        p_value=min(1.0, 2 * tail),
    )


@dataclass(frozen=True)
class Difference:
    """A value of the second less that of the first, over the episodes in which both have it."""

    pairs: int
    first: float | None  # means over these pairs; None without any
    second: float | None
    difference: float | None
    low: float | None  # bootstrap 95 % interval of the mean difference; None below `FEWEST` pairs
    high: float | None

    @property
    def differs(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


def compare_values(first: Sequence[float | None], second: Sequence[float | None]) -> Difference:
    """Percentile bootstrap over pairs, 10,000 resamples, always the same ones."""
    pairs = np.array(
        [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None], float
    )
    if not len(pairs):
        return Difference(0, None, None, None, None, None)
    means, changes = pairs.mean(0), pairs[:, 1] - pairs[:, 0]
    low = high = None
    if len(pairs) >= FEWEST:
        rng = np.random.default_rng(0)
        resampled = changes[rng.integers(len(changes), size=(_RESAMPLES, len(changes)))].mean(1)
        low, high = (float(bound) for bound in np.percentile(resampled, (2.5, 97.5)))
    return Difference(len(pairs), float(means[0]), float(means[1]), float(changes.mean()), low, high)
