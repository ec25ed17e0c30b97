"""Whether an observation may be asked about: finite, in order, every part of it fresh, no camera frozen.

A part that is not good is noted at once and its observation not sent; the plan goes on from the observation before.
Once a part has not been good for longer than its limit, the robot holds, until an observation is good again.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clients.robots.base import RobotObservation
from clients.safety import Fault
from clients.safety_limits import Cause, SafetyLimits
from policy.spec import PolicySpec

# A frame that stays the same to the bit while the state moves by more than this share of its range is frozen: far
# less than that is seen at 128 pixels. No real camera delivers the same frame twice, but a simulated one does.
MOVED = 0.1
# An observation stamped further ahead of time.monotonic() than this, seconds, is on another clock: by that one nothing
# would ever be old.
AHEAD_S = 1.0


@dataclass(frozen=True)
class _Frame:
    """A camera's newest content, with the state and the time at which it was first seen."""

    content: int  # checksum, because a robot may reuse its buffers
    state: np.ndarray
    since: float


class ObservationGuard:
    """Looks at every observation of one episode, on the thread that asks for them.

    Args:
        spec: which cameras and sensors matter, and the range of each state entry.
        limits: how old each part may be.
        sensors: that the robot has.
        may_be_silent: those of them without which it moves on.
        started: monotonic seconds; parts count as good then.
    """

    def __init__(
        self,
        spec: PolicySpec,
        limits: SafetyLimits,
        sensors: Sequence[str],
        started: float,
        may_be_silent: Sequence[str] = (),
    ) -> None:
        self._spec = spec
        self._limits = limits
        self._sensors = [sensor for sensor in spec.sensors if sensor.name in sensors]
        self._may_be_silent = frozenset(may_be_silent)
        self._started = started
        self._good: dict[str, float] = {}  # part -> when it was last good
        self._newest = float("-inf")  # captured_at
        self._frames: dict[str, _Frame] = {}
        ranges = spec.normalization.state
        self._range = np.asarray(ranges.maximum, np.float64) - np.asarray(ranges.minimum, np.float64)
        self.faults: dict[Cause, Fault] = {}  # of the newest look; replaced, never changed

    def look(self, observation: RobotObservation | None, now: float) -> bool:
        """Whether to send it; what is wrong is in `faults` afterwards."""
        found: dict[Cause, Fault] = {}
        if observation is None:
            self._judge(found, "stale_observation", "observation", False, now, "the robot delivers none")
        else:
            wrong = self._wrong_time(observation.captured_at, now)
            if wrong is None:
                self._newest = observation.captured_at
            self._judge(found, "stale_observation", "observation", wrong is None, now, wrong or "")
            self._look_at_state(found, observation, now)
            for camera in self._spec.cameras:
                self._look_at_camera(found, camera.name, observation, now)
            for sensor in self._sensors:
                self._look_at_sensor(found, sensor.name, observation, now)
        self.faults = found
        return not found

    def _wrong_time(self, captured_at: float, now: float) -> str | None:
        if captured_at - now > AHEAD_S:
            return (
                f"its captured_at is {captured_at - now:.3g} s ahead of time.monotonic(), which it must be on"
            )
        return None if captured_at >= self._newest else "an older one came after a newer one"

    def _look_at_state(self, found: dict[Cause, Fault], observation: RobotObservation, now: float) -> None:
        finite = np.isfinite(observation.state)
        names = self._spec.state.names
        wrong = ", ".join(names[i] for i in np.flatnonzero(~finite) if i < len(names))
        self._judge(found, "bad_state", "state", bool(finite.all()), now, f"NaN or infinity in {wrong}")
        self._age(found, "stale_state", "state", observation, now, self._limits.stale_state_s)

    def _look_at_camera(
        self, found: dict[Cause, Fault], name: str, observation: RobotObservation, now: float
    ) -> None:
        image = observation.images.get(name)
        self._judge(found, "stale_camera", name, image is not None, now, f"no frame of {name}")
        if image is None:
            return
        limit = self._limits.stale_camera_s
        if not self._age(found, "stale_camera", name, observation, now, limit):
            return
        known = self._frames.get(name)
        state = np.array(observation.state, np.float64)
        content = zlib.crc32(np.ascontiguousarray(image).data)
        if known is None or known.content != content:
            self._frames[name] = _Frame(content, state, now)
        elif now - known.since > limit and self._moved(known.state, state):
            found["stale_camera"] = Fault(f"{name} has shown the same frame for {now - known.since:.1f} s")

    def _look_at_sensor(
        self, found: dict[Cause, Fault], name: str, observation: RobotObservation, now: float
    ) -> None:
        window = observation.sensors.get(name)
        if window is None or not len(window):
            if name in self._may_be_silent:
                return
            self._judge(found, "stale_sensor", name, False, now, f"nothing from {name}")
            return
        finite = bool(np.isfinite(window).all())
        self._judge(found, "bad_sensor", name, finite, now, f"NaN or infinity from {name}")
        self._age(found, "stale_sensor", name, observation, now, self._limits.stale_sensor_s)

    def _judge(
        self, found: dict[Cause, Fault], cause: Cause, part: str, good: bool, now: float, why: str
    ) -> None:
        """Note a part that is not good; serious once that has lasted."""
        if good:
            self._good[part] = now
            return
        bad_for = now - self._good.get(part, self._started)
        found[cause] = Fault(why, serious=bad_for > self._limit(cause))

    def _age(
        self,
        found: dict[Cause, Fault],
        cause: Cause,
        part: str,
        observation: RobotObservation,
        now: float,
        limit: float,
    ) -> bool:
        age = now - observation.measured_at.get(part, observation.captured_at)
        if part in observation.measured_at and age < -AHEAD_S:
            found[cause] = Fault(f"measured_at of {part} is {-age:.3g} s ahead of time.monotonic()")
            return False
        if age > limit:
            found[cause] = Fault(f"the newest of {part} is {age:.1f} s old")
        return age <= limit

    def _limit(self, cause: Cause) -> float:
        limits = self._limits
        return {
            "bad_state": limits.stale_state_s,
            "stale_camera": limits.stale_camera_s,
            "bad_sensor": limits.stale_sensor_s,
            "stale_sensor": limits.stale_sensor_s,
        }.get(cause, limits.stale_plan_s)

    def _moved(self, before: np.ndarray, now: np.ndarray) -> bool:
        with np.errstate(invalid="ignore"):  # a state that is not finite is told as such
            return bool((np.abs(now - before) > MOVED * self._range).any())
