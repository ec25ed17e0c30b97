"""The watchdog: puts the robot on hold when the control thread itself misses its beat.

The control thread may hang in a driver, in a log or in a bug. The watchdog's thread then holds in its place, period
after period, until it runs again; what the late period had planned is not sent any more. It cannot help where the
whole process is stopped: robots must stop by themselves when commands cease.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from clients.episode import Episode
from clients.robots.base import Haltable, Robot

# A beat is not missed before this many periods, however slow control is.
PERIODS = 3
# Between two looks at most: a limit may be infinite, and an end of the episode is not slept through.
LONGEST_S = 1.0


class Watchdog:
    """Watches one episode's control thread.

    Args:
        episode: which holds when told to.
        robot: halted where the control thread hangs in its driver.
        period_s: of control.
        limit_s: longest silence of the control thread, at least `PERIODS` periods.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        episode: Episode,
        robot: Robot,
        period_s: float,
        limit_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._episode = episode
        self._robot = robot
        self._period = period_s
        self.limit_s = max(limit_s, PERIODS * period_s)
        self._clock = clock
        self._beat = clock()
        self._halted = False

    def beat(self, now: float) -> None:
        """The control thread begins a period."""
        self._beat = now

    def look(self, now: float) -> bool:
        """Hold if the beat is missing; whether it is."""
        silent = now - self._beat
        if silent <= self.limit_s:
            self._halted = False
            return False
        in_driver = not self._episode.take_over(now, silent)
        if in_driver and not self._halted and isinstance(self._robot, Haltable):
            self._halted = True
            self._robot.halt()
        return True

    def run(self, ended: threading.Event) -> None:
        """Watch until the control thread has ended."""
        missing = False
        # While all is well, few looks: each takes the interpreter's lock from the control thread for a moment.
        while not ended.wait(self._period if missing else min(self.limit_s / 2, LONGEST_S)):
            missing = self.look(self._clock())
