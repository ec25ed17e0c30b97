"""The only hand on the robot: acts, holds with a fading motion, one command at a time from whichever thread.

The control thread commands; the watchdog's thread holds in its place when it has missed its beat, and a command that
was decided before that is not sent afterwards.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

from clients.hold import fade, hold_action
from clients.motion_limits import MotionLimits
from clients.robots.base import Robot


class Commander:
    """Commands one robot through one episode.

    Args:
        robot: nobody else commands it meanwhile.
        motion: told what was sent; holding, too, keeps its limits.
        period_s: of control.
    """

    def __init__(self, robot: Robot, motion: MotionLimits, period_s: float) -> None:
        self._robot = robot
        self._motion = motion
        self._period = period_s
        self._lock = threading.Lock()
        self._given_up = False  # somebody took over from the running control period
        self.last = np.asarray(robot.info.resting_command, np.float32)  # float32 [A], the newest command
        self._executed = self.last  # the newest that was no holding, which holding fades out
        self._held = 0  # control periods

    def begin_period(self) -> None:
        """The control thread begins a period: it commands again."""
        self._given_up = False

    def act(self, command: np.ndarray, now: float, before: Callable[[], None]) -> bool:
        """Execute one action.

        Args:
            command: float32 [A].
            now: monotonic seconds.
            before: counts the action as consumed; called if and only if it is sent.

        Returns:
            False where the watchdog took over meanwhile: then nothing is sent.
        """
        with self._lock:
            if self._given_up:
                return False
            before()
            self._robot.act(command)
            self._motion.sent(command, self.last, now, executed=True)
            self.last = self._executed = command
            self._held = 0
        return True

    def hold(self, now: float, *, at_once: bool = False) -> None:
        """Hold for one control period; `at_once` without letting the motion fade."""
        with self._lock:
            self._hold(now, at_once)

    def take_over(self, now: float) -> bool:
        """The watchdog's: hold for one period in place of the control thread.

        Returns:
            False where that hangs in the robot's driver, which takes one command at a time.
        """
        if not self._lock.acquire(blocking=False):
            return False
        try:
            self._given_up = True
            self._hold(now, at_once=False)
        finally:
            self._lock.release()
        return True

    def rest(self, now: float) -> None:
        """Leave the robot standing still; only the control thread's next period would move it again."""
        with self._lock:
            self._given_up = True
            self._hold(now, at_once=True)

    def _hold(self, now: float, at_once: bool) -> None:
        info = self._robot.info
        self._held += 1
        share = 0.0 if at_once else fade(self._held * self._period)
        held = hold_action(info.action_kind, self._executed, info.kept_on_hold, share)
        held = self._motion.limit_hold(held, self.last, now)
        self._robot.hold(held)
        self._motion.sent(held, self.last, now, executed=False)
        self.last = held
