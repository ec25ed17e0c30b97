"""How many committed actions to send along with a request (`rtc`): the steps that will pass meanwhile.

This only sizes the prefix. Where the reply is spliced in follows from the steps really consumed, so a
wrong guess costs smoothness at one seam and never correctness.
"""

from __future__ import annotations

import math
from collections import deque

# Requests averaged: 2 s at 5 Hz, short enough to follow a server that slows down.
WINDOW = 10
# Steps on top of the mean, so that ordinary jitter stays inside the prefix.
MARGIN_STEPS = 2


class PrefixPlanner:
    """Sizes the next prefix from the control steps that passed during recent requests."""

    def __init__(self, max_prefix: int) -> None:
        self._max_prefix = max_prefix
        self._passed: deque[int] = deque(maxlen=WINDOW)

    def measured(self, steps: int) -> None:
        """A request took `steps` control steps, from its observation to the splice."""
        self._passed.append(max(0, steps))

    @property
    def length(self) -> int:
        """Actions to send: the mean rounded up plus a margin, at most the policy's `max_prefix`."""
        if not self._passed:
            return 0
        expected = math.ceil(sum(self._passed) / len(self._passed))
        return min(self._max_prefix, expected + MARGIN_STEPS)
