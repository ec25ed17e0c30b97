"""How a sender's clock relates to ours: the smallest difference ever seen lately, since messages are only ever late."""

from __future__ import annotations

from collections import deque

# Differences older than this are forgotten, so that a slow drift between the clocks is followed.
WINDOW_S = 10.0
# A message further off than this is not late but wrong, or the sender's clock was set.
STEP_S = 0.5
# So many in a row agree before a clock is believed to have been set.
AGREEING = 5


class ClockOffset:
    """Local time minus the sender's, for one stream.

    The estimate is the minimum of `received - sent` over a window, so it holds the shortest way's latency as well,
    which nothing on one side can tell from an offset. A single absurd timestamp never moves it.
    """

    def __init__(self) -> None:
        self._least: deque[tuple[float, float]] = deque()  # (received, difference), ascending in both
        self._strays: list[float] = []
        self.steps = 0  # how often the sender's clock was set

    @property
    def offset(self) -> float | None:
        """Seconds to add to a sender's time; None before the first message."""
        return self._least[0][1] if self._least else None

    def add(self, sent: float, received: float) -> bool:
        """Learn from a message; False where its time is so far off that it must not be believed."""
        difference = received - sent
        if self._least and abs(difference - self._least[-1][1]) > STEP_S and not self._set(difference):
            return False
        self._strays.clear()
        while self._least and self._least[-1][1] >= difference:
            self._least.pop()
        self._least.append((received, difference))
        while self._least[0][0] < received - WINDOW_S and len(self._least) > 1:
            self._least.popleft()
        return True

    def local(self, sender_time: float) -> float:
        """A time of the sender's on our clock."""
        assert self.offset is not None
        return sender_time + self.offset

    def _set(self, difference: float) -> bool:
        """Whether the clock has been set: several differences in a row that agree with each other."""
        if self._strays and abs(difference - self._strays[-1]) > STEP_S:
            self._strays.clear()
        self._strays.append(difference)
        if len(self._strays) < AGREEING:
            return False
        self._least.clear()
        self.steps += 1
        return True
