"""A fixed-rate loop on the monotonic clock: sleep, then spin for the last half millisecond.

Overrun policy: the grid of ticks is fixed at the start and never shifts. A tick that is late by less
than one period runs at once. Ticks whose whole period has gone by are skipped and counted, never made
up for, so an overrun is not followed by a burst.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from clients.measurements import Measurements

# The kernel's wake-up is late by up to about this much; spinning longer would only burn a core.
SPIN_S = 0.0005


class TickGrid:
    """Ticks at `start + i / rate_hz`; time is passed in."""

    def __init__(self, rate_hz: float, start: float) -> None:
        if rate_hz <= 0:
            raise ValueError(f"the rate must be positive, not {rate_hz}")
        self.period = 1.0 / rate_hz
        self._start = start
        self.index = -1

    @property
    def deadline(self) -> float:
        """When the current tick is due."""
        return self._start + self.index * self.period

    def advance(self, now: float) -> int:
        """Go on to the next tick that is still worth running; return how many were skipped."""
        self.index += 1
        late = now - self.deadline
        skipped = int(late / self.period) if late >= self.period else 0
        self.index += skipped
        return skipped


@dataclass(frozen=True)
class Tick:
    """One turn of the loop."""

    index: int  # on the grid, skipped ticks included
    due: float  # monotonic seconds
    began: float
    skipped: int  # ticks given up just before this one


class Pacer:
    """Waits for the ticks of a `TickGrid` and measures how late each began.

    Args:
        rate_hz: ticks per second.
        clock: monotonic seconds.
        sleep: blocks for the given seconds.
        jitter: where lateness goes, in milliseconds; bounded.
    """

    def __init__(
        self,
        rate_hz: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Measurements | None = None,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._grid = TickGrid(rate_hz, clock())
        self.jitter_ms = jitter if jitter is not None else Measurements()
        self.ticks = 0
        self.skipped = 0
        self._first = self._latest = 0.0

    @property
    def period(self) -> float:
        return self._grid.period

    @property
    def achieved_hz(self) -> float | None:
        """Ticks per second so far."""
        return (self.ticks - 1) / (self._latest - self._first) if self.ticks > 1 else None

    def wait(self) -> Tick:
        """Block until the next tick is due."""
        skipped = self._grid.advance(self._clock())
        due = self._grid.deadline
        while (left := due - self._clock()) > 0:
            if left > SPIN_S:
                self._sleep(left - SPIN_S)
        began = self._clock()
        self._first = began if not self.ticks else self._first
        self._latest = began
        self.ticks += 1
        self.skipped += skipped
        self.jitter_ms.add((began - due) * 1e3)
        return Tick(self._grid.index, due, began, skipped)
