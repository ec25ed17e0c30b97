"""What the receiver needs of a robot. A new robot is one file that implements `Robot`.

Threads: `act` and `hold` are called by the control thread only, `observe` by the inference thread only,
everything else while neither runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import numpy as np


@dataclass(frozen=True)
class RobotInfo:
    """The robot's side of the contract, checked against the policy's spec on connect."""

    name: str
    cameras: tuple[str, ...]
    state_names: tuple[str, ...]
    action_names: tuple[str, ...]
    action_kind: Literal["delta", "absolute", "velocity"]
    control_rate_hz: float
    instruction: str  # what the robot is to do now, unless the operator says otherwise
    resting_command: np.ndarray  # float32 [A], what counts as the last command before the first one
    kept_on_hold: tuple[int, ...] = ()  # action dimensions that are no motion, such as a gripper's effort
    task: str = ""  # a short name for reports
    sensors: tuple[str, ...] = ()


@dataclass(frozen=True)
class RobotObservation:
    """The newest complete view: every part belongs to the same instant."""

    images: Mapping[str, np.ndarray]  # camera name -> uint8 [H, W, 3] RGB
    state: np.ndarray  # float32 [D], physical units
    control_step: int  # actions executed (`act`, not `hold`) since the reset, at the time of capture
    captured_at: float  # time.monotonic() of the capture
    sensors: Mapping[str, np.ndarray] = field(default_factory=dict)  # name -> float32 [T, C], oldest first


class Robot(Protocol):
    """A robot, real or simulated."""

    info: RobotInfo

    def reset(self, seed: int) -> None:
        """Start an episode; blocks until the robot is ready. `control_step` is 0 afterwards."""
        ...

    def observe(self) -> RobotObservation | None:
        """The newest complete observation; None when there is none yet. May block for a frame, not longer."""
        ...

    def act(self, action: np.ndarray) -> None:
        """Execute one action [A] and count one control step. Must not block longer than a control period."""
        ...

    def hold(self) -> None:
        """Stay where it is for one control period; counts no control step."""
        ...

    @property
    def done(self) -> bool:
        """The episode is over (success, time limit, operator)."""
        ...

    @property
    def success(self) -> bool:
        """The task was achieved."""
        ...

    def close(self) -> None:
        """Leave the robot holding and release it."""
        ...


@dataclass(frozen=True)
class ReplayFrame:
    """One instant of a finished episode."""

    period: int  # control periods since the reset, held ones included
    images: Mapping[str, np.ndarray]  # camera name -> uint8 [H, W, 3] RGB
    state: np.ndarray  # float32 [D]
    commands: np.ndarray  # float32 [n, A], sent from this instant on until the next frame


@runtime_checkable
class Replayable(Protocol):
    """A robot that can show a finished episode again, at no cost while it ran: simulators can."""

    def replay(
        self, every: int, cameras: Sequence[str] | None = None, size: int | None = None
    ) -> Iterator[ReplayFrame]:
        """One frame every `every` control periods; before the next `reset`."""
        ...
