"""`--adaptive`: asks as often as the server can answer, with a little time to spare.

As the original receiver did: the period is 1.15 times the mean of the last ten inferences, at least 0.1 s.
"""

from __future__ import annotations

from collections import deque

WINDOW = 10
SPARE = 1.15
SHORTEST_S = 0.1


class AdaptivePeriod:
    """The period between requests, from how long the recent ones took.

    Args:
        initial_s: until one was measured.
    """

    def __init__(self, initial_s: float) -> None:
        self._initial = initial_s
        self._took: deque[float] = deque(maxlen=WINDOW)

    def measured(self, seconds: float) -> None:
        """An inference took this long, capture and transport included."""
        self._took.append(seconds)

    @property
    def period_s(self) -> float:
        """Seconds from the start of one request to the start of the next."""
        if not self._took:
            return self._initial
        return max(SHORTEST_S, SPARE * sum(self._took) / len(self._took))
