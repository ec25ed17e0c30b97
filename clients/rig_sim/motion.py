"""How the arm moves: commands set a target, the arm follows it within the rig's speed limits and stops on silence."""

from __future__ import annotations

import math

import numpy as np

from clients.rig_sim.parameters import Limits
from clients.robots.rig_wire import Command


class ArmMotion:
    """The arm's reported pose (x y z in mm, a b r in degrees) over time. Pure: times are passed in."""

    def __init__(self, limits: Limits, servo_time: float, pose: np.ndarray) -> None:
        self._limits = limits
        self._servo_time = servo_time
        self.pose = [float(value) for value in pose]
        self._target = list(self.pose)
        self._heard = -math.inf
        self._may_be_far = False  # an apose's target is further away than a dpose's lead
        self.started = False
        self.halted: str | None = None  # why the rig stopped by itself, until the next start
        self.silences = 0
        self.cut = 0  # deltas that ran further ahead than the lead allows

    def command(self, command: Command, now: float) -> bool:
        """Take a command; False when it is ignored because the rig was not started or has halted."""
        if command.cmd == "start":
            self.started, self.halted = True, None
            self._stand()
        elif command.cmd == "stop":
            self.started = False
            self._stand()
        elif not self.started or self.halted is not None or command.vector is None:
            return False
        elif command.cmd == "dpose":
            if self._may_be_far:
                self._stand()
            self._target = [value + delta for value, delta in zip(self._target, command.vector, strict=True)]
            self._keep_within_lead()
        else:
            self._may_be_far = True
            self._target = list(command.vector)
        self._heard = now
        return True

    def halt(self, why: str) -> None:
        """Stop until the next start."""
        self.halted = self.halted or why
        self._stand()

    def put(self, pose: np.ndarray) -> None:
        """Stand at `pose` [6] at once."""
        self.pose = [float(value) for value in pose]
        self._stand()

    def advance(self, dt: float, now: float) -> None:
        """Move for `dt`, ending at `now`."""
        if self.started and now - self._heard > self._limits.silence and self._moving:
            self.silences += 1
            self._stand()
        gap = self._gap()
        if not any(gap):
            return
        rate = min(1.0, dt / self._servo_time)
        distance = math.sqrt(gap[0] ** 2 + gap[1] ** 2 + gap[2] ** 2)
        share = min(rate, self._limits.speed * dt / distance) if distance else 0.0
        turn = self._limits.turn_speed * dt
        for axis in range(3):
            self.pose[axis] += gap[axis] * share
        for axis in range(3, 6):
            self.pose[axis] = _wrap(self.pose[axis] + max(-turn, min(turn, gap[axis] * rate)))

    @property
    def _moving(self) -> bool:
        return any(abs(gap) > 1e-6 for gap in self._gap())

    def _stand(self) -> None:
        self._target = list(self.pose)
        self._may_be_far = False

    def _gap(self) -> list[float]:
        gap = [target - value for target, value in zip(self._target, self.pose, strict=True)]
        return gap[:3] + [_wrap(angle) for angle in gap[3:]]

    def _keep_within_lead(self) -> None:
        lead, gap = self._limits.lead, self._gap()
        distance = math.sqrt(gap[0] ** 2 + gap[1] ** 2 + gap[2] ** 2)
        kept = [part * min(1.0, lead / distance) if distance else 0.0 for part in gap[:3]]
        kept += [max(-lead, min(lead, angle)) for angle in gap[3:]]
        if kept != gap:
            self.cut += 1
        self._target = [value + part for value, part in zip(self.pose, kept, strict=True)]


def _wrap(angle: float) -> float:
    return (angle + 180.0) % 360.0 - 180.0
