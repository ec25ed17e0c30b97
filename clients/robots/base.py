"""What the receiver needs of a robot. A new robot is one file that implements `Robot`: docs/add-a-robot.md.

Threads: `act` and `hold` are called by the control thread only; `observe` by the inference thread and, while a
recording is made, by the recorder's, one at a time; everything else while none of them runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from policy.spec import PolicySpec


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
    # float32 [A], what counts as the last command before the first one. Of absolute targets: where the robot stands.
    resting_command: np.ndarray
    kept_on_hold: tuple[int, ...] = ()  # action dimensions that are no motion, such as a gripper's effort
    task: str = ""  # a short name for reports
    sensors: tuple[str, ...] = ()
    may_be_silent: tuple[
        str, ...
    ] = ()  # of these sensors: without their data the robot moves on all the same
    frame_rate_hz: float = 20.0  # camera frames a second worth recording


@dataclass(frozen=True)
class RobotRequest:
    """What a robot's factory is told."""

    task: str  # --task, for robots that have several
    spec: PolicySpec  # the policy that will drive it
    config: Path | None = (
        None  # --robot-config: addresses, camera names and the like, in the robot's own format
    )
    keep_replay: bool = False  # a film of each episode is wanted: see `Replayable`

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the cameras that the policy looks at."""
        return tuple(camera.name for camera in self.spec.cameras)


@dataclass(frozen=True)
class RobotObservation:
    """The newest complete view: every part belongs to the same instant."""

    images: Mapping[str, np.ndarray]  # camera name -> uint8 [H, W, 3] RGB
    state: np.ndarray  # float32 [D], physical units
    control_step: int  # actions executed (`act`, not `hold`) since the reset, at the time of capture
    captured_at: float  # time.monotonic() of the capture
    sensors: Mapping[str, np.ndarray] = field(default_factory=dict)  # name -> float32 [T, C], oldest first
    # Camera, sensor or "state" -> time.monotonic() of its newest data, where that is older than the capture.
    measured_at: Mapping[str, float] = field(default_factory=dict)


class Robot(Protocol):
    """A robot, real or simulated."""

    @property
    def info(self) -> RobotInfo:
        """May change with `reset`."""
        ...

    def reset(self, seed: int) -> None:
        """Start an episode; blocks until the robot is ready. `control_step` is 0 afterwards.

        A robot of absolute targets says here, in `info.resting_command`, where it stands: it is held there until the
        first chunk comes.
        """
        ...

    def observe(self) -> RobotObservation | None:
        """The newest complete observation; None when there is none yet. May block for a frame, not longer."""
        ...

    def act(self, action: np.ndarray) -> None:
        """Execute one action [A] and count one control step. Must not block longer than a control period."""
        ...

    def hold(self, command: np.ndarray) -> None:
        """One control period off the plan: send `command` [A], which stands still or comes to a stop.

        Counts no control step. Must not block longer than a control period.
        """
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


@runtime_checkable
class Rendered(Protocol):
    """A robot whose cameras can look at an instant after it has passed: simulators can."""

    def look_later(self) -> Callable[[], RobotObservation]:
        """This very instant, taken on the control thread at no cost; rendered when the result is called."""
        ...


@runtime_checkable
class Haltable(Protocol):
    """A robot that can be stopped while `act` or `hold` has not returned: by a second line, or by the hardware."""

    def halt(self) -> None:
        """Stop at once. Called by the watchdog's thread when the control thread hangs in the driver."""
        ...


@runtime_checkable
class Reporting(Protocol):
    """A robot with something of its own to tell: streams that lose messages, the stages of its task."""

    def log_to(self, log: Callable[[str], None]) -> None:
        """Tell lines to `log` from now on, from any thread."""
        ...

    def episode_report(self) -> Mapping[str, Any]:
        """JSON-able facts about the episode since the last `reset`, for the run's report."""
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
