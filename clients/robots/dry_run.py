"""`--dry-run`: a robot that sees everything and is never moved."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from clients.hold import hold_action
from clients.robots.base import Robot, RobotInfo, RobotObservation


class DryRun:
    """Stands between the receiver and a robot: actions are counted as executed, and the robot holds.

    Args:
        robot: a real or a simulated one.
    """

    def __init__(self, robot: Robot) -> None:
        self.robot = robot
        self._executed = 0

    @property
    def info(self) -> RobotInfo:
        return self.robot.info

    def reset(self, seed: int) -> None:
        """Bring the robot into its starting position, which is the one motion that is made."""
        self.robot.reset(seed)
        self._executed = 0

    def observe(self) -> RobotObservation | None:
        """What the robot sees, stamped with the actions that would have been executed."""
        executed = self._executed
        seen = self.robot.observe()
        return None if seen is None else replace(seen, control_step=executed)

    def act(self, action: np.ndarray) -> None:
        """Count a control step; the robot stands still."""
        self._executed += 1
        self._stand_still()

    def hold(self, command: np.ndarray) -> None:
        """The robot stands still."""
        self._stand_still()

    @property
    def done(self) -> bool:
        return self.robot.done

    @property
    def success(self) -> bool:
        return self.robot.success

    def close(self) -> None:
        self.robot.close()

    def _stand_still(self) -> None:
        info = self.info
        self.robot.hold(hold_action(info.action_kind, info.resting_command, info.kept_on_hold))
