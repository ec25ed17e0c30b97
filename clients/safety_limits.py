"""What commands and observations must respect, and what happens where they do not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np

from clients.hold import ActionKind
from policy.spec import ActionSpec

Cause = Literal[
    "bounds",  # a command beyond the action's bounds
    "max_change",  # a command too far from the one before
    "max_per_step",  # too much motion in one control step
    "max_per_second",  # too much motion within a second
    "workspace",  # motion out of the workspace box
    "non_finite",  # a planned action holds NaN or infinity
    "starved",  # nothing is planned for this step
    "uncertain",  # the policy's samples disagree
    "bad_state",  # the state holds NaN or infinity
    "bad_sensor",  # likewise a sensor's window
    "stale_camera",  # no new frame, or the same one again and again while the robot moves
    "stale_state",
    "stale_sensor",
    "stale_observation",  # the robot delivers none, or older ones than before
    "stale_server",  # the plan is old because the server does not answer
    "watchdog",  # the control thread missed its beat
]
Response = Literal["clamp", "slow", "hold", "stop"]

_LIMITED: tuple[Response, ...] = ("clamp", "hold", "stop")
_HELD: tuple[Response, ...] = ("hold", "stop")
# Cause -> what may be done about it, the default first.
RESPONSES: dict[Cause, tuple[Response, ...]] = {
    cause: _LIMITED if cause in get_args(Cause)[:5] else _HELD for cause in get_args(Cause)
}
RESPONSES["uncertain"] = ("slow", "hold")

# Oldest frame, state, sensor window or plan that a command may rest on.
STALE_AFTER_S = 1.0
# A control thread that has not run for this long has missed its beat: 8 periods at 80 Hz, far beyond jitter.
WATCHDOG_S = 0.1


@dataclass(frozen=True)
class Workspace:
    """A box for the state entries that are positions, each moved by one dimension of the action."""

    state: np.ndarray  # int [N], entries of the state
    action: np.ndarray  # int [N], the action's dimension that moves each
    low: np.ndarray  # float64 [N], state units
    high: np.ndarray
    scale: np.ndarray  # float64 [N], state units that one unit of motion moves it


@dataclass(frozen=True)
class SafetyLimits:
    """On by default; `clients.limits_file` tightens them.

    Motion is the action itself for deltas, action x period for velocities, the way from the last command for
    absolute targets.
    """

    kind: ActionKind
    low: np.ndarray  # float32 [A], physical units
    high: np.ndarray
    max_change: np.ndarray  # [A] from one command to the next; infinite: unlimited
    max_per_step: np.ndarray  # [A] motion in one control step
    max_per_second: np.ndarray  # [A] motion within any second
    workspace: Workspace | None = None
    stale_camera_s: float = STALE_AFTER_S
    stale_state_s: float = STALE_AFTER_S
    stale_sensor_s: float = STALE_AFTER_S
    stale_plan_s: float = STALE_AFTER_S  # age of the observation behind the action that is executed
    watchdog_s: float = WATCHDOG_S
    responses: Mapping[Cause, Response] = field(default_factory=dict)  # where they differ from the default

    @classmethod
    def of(
        cls, action: ActionSpec, *, stale_plan_s: float = STALE_AFTER_S, max_change: float | None = None
    ) -> SafetyLimits:
        """Bounds of the action spec; `max_change` as a fraction of each dimension's range."""
        low, high = np.asarray(action.low, np.float32), np.asarray(action.high, np.float32)
        unlimited = np.full_like(low, np.inf)
        change = unlimited if max_change is None else (max_change * (high - low)).astype(np.float32)
        return cls(action.kind, low, high, change, unlimited, unlimited, stale_plan_s=stale_plan_s)

    def response(self, cause: Cause) -> Response:
        """What to do about `cause`."""
        return self.responses.get(cause, RESPONSES[cause][0])
