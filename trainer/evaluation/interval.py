"""Wilson's score interval for a success rate (Wilson, 1927)."""

from __future__ import annotations

import math

_Z95 = 1.959963984540054


def wilson(successes: int, episodes: int, z: float = _Z95) -> tuple[float, float]:
    """(low, high) of the success probability at 95 % confidence.

    Raises:
        ValueError: no episodes, or more successes than episodes.
    """
    if not 0 <= successes <= episodes or episodes == 0:
        raise ValueError(f"{successes} successes of {episodes} episodes")
    rate, n = successes / episodes, episodes
    center = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return max(0.0, center - half), min(1.0, center + half)
