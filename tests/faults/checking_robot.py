"""A robot that records every command and checks each on its own account, and whose parts can be made to fail."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from clients.robots.base import RobotObservation
from clients.robots.null import NullRobot
from policy.null import null_spec
from policy.spec import PolicySpec, SensorSpec

RATE = 80.0
SENSOR = SensorSpec(name="force", channels=1, window=8, rate_hz=100.0, units="N")
SPEC: PolicySpec = null_spec(sensors=(SENSOR,))
# What the checking robot demands, and what the receiver is told in a limits file.
BOUND, PER_STEP, PER_SECOND, BOX = 0.9, 0.5, 12.0, 0.8
MOVING = 3  # dimensions; the last is a gripper
LIMITS_TOML = "\n".join(
    [
        f"[action.a{i}]\nlow = -{BOUND}\nhigh = {BOUND}\nmax_per_step = {PER_STEP}\nmax_per_second = {PER_SECOND}\n"
        f'[workspace.s{i}]\nlow = -{BOX}\nhigh = {BOX}\nmoved_by = "a{i}"\nscale = 1.0'
        for i in range(MOVING)
    ]
    + ["[stale_after]\ncamera = 0.5\nstate = 0.5\nsensor = 0.5\nplan = 1.0"]
)
# float32 sums.
SLACK = 1e-4


class CheckingRobot(NullRobot):
    """Does exactly what it is told, and adds up what that was.

    Args:
        periods: control periods of an episode.
        control_rate_hz: its rate.
        clock: monotonic seconds.
        second_s: what it takes for a second; less where a command may be late by its own thread's scheduling.
    """

    def __init__(
        self,
        *,
        periods: int = 10**9,
        control_rate_hz: float = RATE,
        clock: Callable[[], float],
        second_s: float = 1.0,
    ) -> None:
        self._second = second_s
        self._sent: deque[tuple[float, np.ndarray]] = deque()
        super().__init__(periods=periods, control_rate_hz=control_rate_hz, clock=clock)
        self.info = replace(self.info, sensors=(SENSOR.name,))
        self.unsafe: list[str] = []
        self.frozen_camera = self.nan_state = self.silent_sensor = self.silent = False
        self._frame: dict[str, np.ndarray] = {}

    def observe(self) -> RobotObservation | None:
        """What its parts deliver, broken ones included."""
        seen = super().observe()
        if seen is None or self.silent:
            return None
        if not self.frozen_camera:
            self._frame = dict(seen.images)
        state = np.full_like(seen.state, np.nan) if self.nan_state else seen.state
        window = np.zeros((SENSOR.window, SENSOR.channels), np.float32)
        return replace(
            seen, images=self._frame, state=state, sensors={} if self.silent_sensor else {SENSOR.name: window}
        )

    def _send(self, command: np.ndarray) -> None:
        number = len(self.commands)
        if not np.isfinite(command).all():
            self.unsafe.append(f"{number}: not finite: {command}")
        bounds = np.array([BOUND] * MOVING + [1.0])
        if (np.abs(command) > bounds + SLACK).any():
            self.unsafe.append(f"{number}: beyond its bounds: {command}")
        if (np.abs(command[:MOVING]) > PER_STEP + SLACK).any():
            self.unsafe.append(f"{number}: too fast for a step: {command}")
        now = self._clock()
        self._sent.append((now, np.abs(command[:MOVING])))
        while self._sent[0][0] <= now - self._second + SLACK:
            self._sent.popleft()
        moved = np.sum([motion for _, motion in self._sent], axis=0)
        if (moved > PER_SECOND + SLACK).any():
            self.unsafe.append(f"{number}: too fast for a second: {moved}")
        super()._send(command)
        if (np.abs(self.state[:MOVING]) > BOX + SLACK).any():
            self.unsafe.append(f"{number}: out of the workspace: {self.state}")
