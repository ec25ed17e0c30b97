"""A robot without hardware: it integrates its commands and keeps every one it was sent."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from clients.robots.base import RobotInfo, RobotObservation, RobotRequest


def make(request: RobotRequest) -> NullRobot:
    """A null robot of the policy's shape."""
    action = request.spec.action
    return NullRobot(cameras=request.cameras, action_dim=action.dim, control_rate_hz=action.rate_hz)


class NullRobot:
    """Velocity-like commands move a point; frames are a flat colour that changes with every period.

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
        self.commands: list[np.ndarray] = []  # of the episode; holding included
        self.executed: list[np.ndarray] = []  # what `act` was given
        self.closed = False
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Back to the origin."""
        self.commands, self.executed = [], []
        self.state = np.zeros_like(self.info.resting_command)

    def observe(self) -> RobotObservation | None:
        """Now."""
        image = np.full((16, 16, 3), len(self.commands) % 256, np.uint8)
        return RobotObservation(
            images=dict.fromkeys(self.info.cameras, image),
            state=self.state,
            control_step=len(self.executed),
            captured_at=self._clock(),
        )

    def act(self, action: np.ndarray) -> None:
        """Integrate one command."""
        self.executed.append(action)
        self._send(action)

    def hold(self, command: np.ndarray) -> None:
        """Integrate one command that is no control step."""
        self._send(command)

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
