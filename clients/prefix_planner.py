"""How many committed actions to send along with a request (`rtc`): the steps that will pass meanwhile, no more.

This only sizes the prefix. Where the reply is spliced in follows from the steps really consumed, so a wrong guess
costs smoothness at one seam and never correctness. A prefix that is too long costs more: of what is committed,
nothing can be corrected by what the robot sees.
"""

from __future__ import annotations

from collections import deque

# Requests looked back on: 2 s at 5 Hz, short enough to follow a server that slows down.
WINDOW = 10
# Actions that a chunk continues however fast the server is, for the sake of a smooth seam.
SHORTEST = 2


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
        """Actions to send: what all recent requests but the slowest took, at most the policy's `max_prefix`."""
        if not self._passed:
            return 0
        slowest = sorted(self._passed)
        return min(self._max_prefix, max(SHORTEST, slowest[-2 if len(slowest) > 2 else -1]))
