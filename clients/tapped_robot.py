"""A robot that lets others see what it sees and does: recording and views listen here, the receiver does not know."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from clients.robots.base import Robot, RobotInfo, RobotObservation

# Of `Rendered`, `Haltable` and `Replayable`.
_OPTIONAL = ("look_later", "halt", "replay")


class Tap(Protocol):
    """Told from the robot's own threads; must not block and, but for `began`, must not fail."""

    def began(self, robot: TappedRobot, seed: int) -> None:
        """An episode begins; the robot is ready. Raises `UsageError` where it cannot be."""
        ...

    def commanded(self, command: np.ndarray, held: bool) -> None:
        """A command [A] is about to be sent, one control period of the robot's; on the control thread."""
        ...

    def observed(self, observation: RobotObservation) -> None:
        """The policy is about to see this; on the inference thread."""
        ...


class TappedRobot:
    """The robot itself to the receiver. `observe` may be called by several threads, one at a time gets through.

    Args:
        robot: what it passes everything on to, its optional parts included.
        taps: told about it.
    """

    def __init__(self, robot: Robot, taps: Sequence[Tap]) -> None:
        self._robot = robot
        self._taps = tuple(taps)
        self._observing = threading.Lock()
        for part in _OPTIONAL:
            if hasattr(robot, part):
                setattr(self, part, getattr(robot, part))

    @property
    def info(self) -> RobotInfo:
        return self._robot.info

    def reset(self, seed: int) -> None:
        self._robot.reset(seed)
        for tap in self._taps:
            tap.began(self, seed)

    def observe(self) -> RobotObservation | None:
        observation = self.look()
        if observation is not None:
            for tap in self._taps:
                tap.observed(observation)
        return observation

    def look(self) -> RobotObservation | None:
        """`observe` for the taps themselves."""
        with self._observing:
            return self._robot.observe()

    def act(self, action: np.ndarray) -> None:
        for tap in self._taps:
            tap.commanded(action, False)
        self._robot.act(action)

    def hold(self, command: np.ndarray) -> None:
        for tap in self._taps:
            tap.commanded(command, True)
        self._robot.hold(command)

    @property
    def done(self) -> bool:
        return self._robot.done

    @property
    def success(self) -> bool:
        return self._robot.success

    def close(self) -> None:
        self._robot.close()
