"""A robot without hardware: it integrates its commands and keeps every one it was sent."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from clients.hold import hold_action
from clients.robots.base import RobotInfo, RobotObservation


class NullRobot:
    """Velocity-like commands move a point; frames are a flat colour.

    Args:
        cameras: names of its cameras.
        action_dim: dimensions of an action; the state has as many. The last one is a gripper.
        periods: control periods of an episode.
        control_rate_hz: its own rate.
        clock: monotonic seconds; a test passes simulated time.
    """

    def __init__(
        self,
        *,
        cameras: Sequence[str] = ("corner4",),
        action_dim: int = 4,
        periods: int = 160,
        control_rate_hz: float = 80.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.info = RobotInfo(
            name="null",
            task="null",
            cameras=tuple(cameras),
            state_names=tuple(f"s{i}" for i in range(action_dim)),
            action_names=tuple(f"a{i}" for i in range(action_dim)),
            action_kind="delta",
            control_rate_hz=control_rate_hz,
            instruction="do nothing in particular",
            resting_command=np.zeros(action_dim, np.float32),
            kept_on_hold=(action_dim - 1,),
        )
        self._clock = clock
        self._periods = periods
        self._image = np.full((16, 16, 3), 128, np.uint8)
        self.commands: list[np.ndarray] = []  # of the episode; holding included
        self.executed: list[np.ndarray] = []  # what `act` was given
        self.closed = False
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Back to the origin."""
        self.commands, self.executed = [], []
        self._last = self.info.resting_command
        self.state = np.zeros_like(self._last)

    def observe(self) -> RobotObservation | None:
        """Now."""
        return RobotObservation(
            images=dict.fromkeys(self.info.cameras, self._image),
            state=self.state,
            control_step=len(self.executed),
            captured_at=self._clock(),
        )

    def act(self, action: np.ndarray) -> None:
        """Integrate one command."""
        self.executed.append(action)
        self._send(action)

    def hold(self) -> None:
        """No motion, the gripper as it was."""
        self._send(hold_action("delta", self._last, self.info.kept_on_hold))

    @property
    def done(self) -> bool:
        return len(self.commands) >= self._periods

    @property
    def success(self) -> bool:
        """It went through its whole episode."""
        return self.done

    def close(self) -> None:
        self.closed = True

    def _send(self, command: np.ndarray) -> None:
        self.commands.append(command)
        self.state = (self.state + command).astype(np.float32)
        self._last = command
