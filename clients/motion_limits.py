"""Keeps commands within bounds, speeds and the workspace. Pure: times and states are passed in.

Every limit is an interval per action dimension, so that one command can respect them all at once. Standing still
respects each of them: a robot that finds itself outside its workspace may move towards it and no further away.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clients.safety_limits import Cause, SafetyLimits

# The window of `max_per_second`.
SECOND_S = 1.0


@dataclass(frozen=True)
class Limited:
    """A command that respects the limits, and which of them it ran into."""

    command: np.ndarray | None  # float32 [A]; None where no command respects them all
    causes: dict[Cause, str]  # with a reason each


@dataclass(frozen=True)
class _Sent:
    """A command that went to the robot."""

    at: float
    motion: np.ndarray  # float64 [A]
    step: int  # control steps executed before it
    executed: bool  # it was one itself, not holding


@dataclass(frozen=True)
class _Seen:
    """Where the robot was."""

    state: np.ndarray  # float64 [D]
    step: int  # control steps executed before
    at: float


@dataclass(frozen=True)
class _Interval:
    low: np.ndarray  # float64 [A], in units of the command
    high: np.ndarray

    def clip(self, command: np.ndarray) -> np.ndarray:
        return np.minimum(np.maximum(command, self.low), self.high)


class MotionLimits:
    """Limits one command after another; the control thread's and the watchdog's at the same time where that must be.

    Args:
        limits: what to respect.
        period_s: of control.
        kept: dimensions that are no motion, such as a gripper's effort: only bounds and `max_change` hold for them.
    """

    def __init__(self, limits: SafetyLimits, period_s: float, kept: Sequence[int] = ()) -> None:
        self._limits = limits
        self._period = period_s
        self._moves = np.ones(len(limits.low), bool)
        self._moves[list(kept)] = False
        self._recent: deque[_Sent] = deque()
        self._steps = 0  # control steps executed
        self._seen: _Seen | None = None
        self._lock = threading.Lock()  # around what was sent

    def located(self, state: np.ndarray, control_step: int, captured_at: float) -> None:
        """A newer state, which the workspace is measured from; may come from another thread."""
        self._seen = _Seen(np.array(state, np.float64), control_step, captured_at)

    def limit(self, planned: np.ndarray, last: np.ndarray, now: float) -> Limited:
        """The command nearest to `planned` that respects all limits. Changes nothing; see `sent`.

        Args:
            planned: finite float32 [A].
            last: the command before.
            now: monotonic seconds.
        """
        asked = np.asarray(planned, np.float64)
        before = np.asarray(last, np.float64)
        causes: dict[Cause, str] = {}
        bounds = _Interval(
            np.asarray(self._limits.low, np.float64), np.asarray(self._limits.high, np.float64)
        )
        command = bounds.clip(asked)
        if not np.array_equal(command, asked):
            worst = float(np.max(np.abs(asked - command)))
            causes["bounds"] = f"the planned action exceeds its bounds by {worst:.3g}"
        with self._lock:
            intervals = self._intervals(before, now)
        for cause, (interval, why) in intervals.items():
            if not np.array_equal(interval.clip(command), command):
                causes[cause] = why
        if not causes:
            return Limited(np.asarray(planned, np.float32), causes)
        if "max_change" in intervals:  # gives way to the others: they may demand a stop
            command = intervals["max_change"][0].clip(command)
        hard = [bounds, *(interval for cause, (interval, _) in intervals.items() if cause != "max_change")]
        low = np.max([interval.low for interval in hard], axis=0)
        high = np.min([interval.high for interval in hard], axis=0)
        if (low > high).any():
            return Limited(None, causes)
        return Limited(np.asarray(_Interval(low, high).clip(command), np.float32), causes)

    def limit_hold(self, command: np.ndarray, last: np.ndarray, now: float) -> np.ndarray:
        """A fading motion, shortened where it would leave the limits; braking may be as hard as it likes."""
        held = np.asarray(command, np.float64)
        with self._lock:
            intervals = self._intervals(np.asarray(last, np.float64), now)
        for cause, (interval, _) in intervals.items():
            if cause != "max_change":
                held = np.where(self._moves, interval.clip(held), held)
        return np.asarray(held, np.float32)

    def sent(self, command: np.ndarray, last: np.ndarray, now: float, *, executed: bool) -> None:
        """`command` went to the robot: it counts towards the second and moves the position.

        Args:
            command: float32 [A].
            last: the one before.
            now: monotonic seconds.
            executed: it was a control step, not holding.
        """
        motion = self._motion(np.asarray(command, np.float64), np.asarray(last, np.float64))
        with self._lock:
            if motion.any():
                self._recent.append(_Sent(now, motion, self._steps, executed))
            self._steps += executed
            seen = self._seen
            box_needs = seen.step if seen is not None and self._limits.workspace is not None else self._steps
            while self._recent and self._recent[0].at <= now - SECOND_S and self._recent[0].step < box_needs:
                self._recent.popleft()

    def _motion(self, command: np.ndarray, last: np.ndarray) -> np.ndarray:
        if self._limits.kind == "absolute":
            return np.where(self._moves, command - last, 0.0)
        scale = self._period if self._limits.kind == "velocity" else 1.0
        return np.where(self._moves, command * scale, 0.0)

    def _commands(self, low: np.ndarray, high: np.ndarray, last: np.ndarray) -> _Interval:
        """The commands whose motion lies between `low` and `high`; dimensions that are no motion stay free."""
        if self._limits.kind == "absolute":
            low, high = last + low, last + high
        elif self._limits.kind == "velocity":
            low, high = low / self._period, high / self._period
        return _Interval(np.where(self._moves, low, -np.inf), np.where(self._moves, high, np.inf))

    def _intervals(self, last: np.ndarray, now: float) -> dict[Cause, tuple[_Interval, str]]:
        limits = self._limits
        found: dict[Cause, tuple[_Interval, str]] = {}
        if np.isfinite(limits.max_change).any():
            change = np.asarray(limits.max_change, np.float64)
            why = "the planned action changes faster than allowed"
            found["max_change"] = _Interval(last - change, last + change), why
        if np.isfinite(limits.max_per_step).any():
            step = np.asarray(limits.max_per_step, np.float64)
            why = "the planned motion is too long for one control step"
            found["max_per_step"] = self._commands(-step, step, last), why
        if np.isfinite(limits.max_per_second).any():
            newest = (sent for sent in self._recent if sent.at > now - SECOND_S)
            spent = sum((np.abs(sent.motion) for sent in newest), np.zeros(len(last)))
            left = np.maximum(0.0, limits.max_per_second - spent)
            why = "the motion of the last second leaves no room for the planned one"
            found["max_per_second"] = self._commands(-left, left, last), why
        if limits.workspace is not None and (box := self._box(last)) is not None:
            found["workspace"] = box, "the planned motion leads out of the workspace"
        return found

    def _box(self, last: np.ndarray) -> _Interval | None:
        box = self._limits.workspace
        assert box is not None
        low, high = np.full(len(last), -np.inf), np.full(len(last), np.inf)
        if self._limits.kind == "absolute":  # a target is a position: nothing needs to be known of the state
            ends = np.sort([box.low / box.scale, box.high / box.scale], axis=0)
            np.maximum.at(low, box.action, np.minimum(ends[0], last[box.action]))
            np.minimum.at(high, box.action, np.maximum(ends[1], last[box.action]))
            return _Interval(low, high)
        if self._seen is None:
            return None
        least, most = self._moved_since(self._seen)
        state = self._seen.state[box.state]
        ends = np.sort([state + box.scale * least[box.action], state + box.scale * most[box.action]], axis=0)
        # Motion is allowed only where it stays inside wherever between these the robot is.
        to_low, to_high = (box.low - ends[0]) / box.scale, (box.high - ends[1]) / box.scale
        forward = box.scale > 0
        np.maximum.at(low, box.action, np.minimum(np.where(forward, to_low, to_high), 0.0))
        np.minimum.at(high, box.action, np.maximum(np.where(forward, to_high, to_low), 0.0))
        return self._commands(low, high, last)

    def _moved_since(self, seen: _Seen) -> tuple[np.ndarray, np.ndarray]:
        """Least and most motion [A] since a state was seen.

        Control steps are numbered. Of a motion while holding, about the time of the capture, nobody can tell whether
        the state shows it.
        """
        least, most = np.zeros(len(self._moves)), np.zeros(len(self._moves))
        for sent in self._recent:
            if sent.step < seen.step or (not sent.executed and sent.at < seen.at - self._period):
                continue
            certain = sent.executed or sent.step > seen.step or sent.at > seen.at + self._period
            least += sent.motion if certain else np.minimum(sent.motion, 0.0)
            most += sent.motion if certain else np.maximum(sent.motion, 0.0)
        return least, most
