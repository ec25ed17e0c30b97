"""The last word before a command reaches the robot: clamp, hold or stop, count, say why once, recover by itself.

On by default. Pure: times are passed in, commands come back. Each cause has an onset (logged once) and ends by
itself when it is gone; only `stop`, which the operator has to ask for, ends the episode.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np

from clients.motion_limits import MotionLimits
from clients.safety_limits import Cause, Response, SafetyLimits

# What is left of a motion that `slow` lets through.
SLOW = 0.5
_VERBS: dict[Response, str] = {"clamp": "clamping", "slow": "slowing", "hold": "holding", "stop": "stopping"}


@dataclass(frozen=True)
class Fault:
    """Something wrong that the planned action does not show."""

    why: str  # for the log
    serious: bool = True  # False: noted, and the plan goes on for now


@dataclass(frozen=True)
class Decision:
    """What the robot is to do for one control period."""

    command: np.ndarray | None  # float32 [A]; None: hold
    stop: Cause | None = None  # the episode ends here, the robot holding


@dataclass
class Intervention:
    """How often one cause intervened."""

    onsets: int = 0
    steps: int = 0  # control periods in which the command was another one for it
    active: bool = False
    told: bool = False  # that it intervenes


class SafetyLayer:
    """Judges one command per control period.

    Args:
        limits: what to enforce.
        period_s: of control.
        kept: action dimensions that are no motion.
        log: told one line at each onset and one when the cause is gone.
    """

    def __init__(
        self,
        limits: SafetyLimits,
        period_s: float,
        kept: Sequence[int] = (),
        log: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.limits = limits
        self.motion = MotionLimits(limits, period_s, kept)
        # All from the start, so that a display may look through them while the control thread counts.
        self.interventions: dict[Cause, Intervention] = {cause: Intervention() for cause in get_args(Cause)}
        self._moves = [i for i in range(len(limits.low)) if i not in kept]
        self._log = log

    def command(
        self,
        planned: np.ndarray | None,
        last: np.ndarray,
        now: float,
        faults: Mapping[Cause, Fault] | None = None,
        *,
        waiting: bool = False,
    ) -> Decision:
        """What to do about the planned action.

        Args:
            planned: float32 [A] from the chunk buffer; None when there is none.
            last: float32 [A], the command before.
            now: monotonic seconds.
            faults: what else is wrong at this moment.
            waiting: having no plan is as it should be.
        """
        causes = dict(faults or {})
        if planned is None and not waiting:
            causes["starved"] = Fault("no action is planned for this step")
        elif planned is not None and not np.isfinite(planned).all():
            causes["non_finite"] = Fault("the planned action holds NaN or infinity")
        command = None if self._holds(causes) else planned
        if command is not None:
            if "uncertain" in causes:
                command = self._slowed(command, last)
            limited = self.motion.limit(command, last, now)
            causes |= {cause: Fault(why) for cause, why in limited.causes.items()}
            command = None if self._holds(causes) else limited.command
        self._account(causes, holding=command is None)
        stopping = [c for c, fault in causes.items() if fault.serious and self.limits.response(c) == "stop"]
        return Decision(command, stopping[0] if stopping else None)

    def missed_beat(self, silent_s: float) -> None:
        """The watchdog's: the control thread, which ends this cause by running again, has not run."""
        seen = self.interventions["watchdog"]
        seen.steps += 1
        if not seen.active:
            seen.active = True
            seen.onsets += 1
            verb = self._verb("watchdog", True)
            self._log(f"safety: {verb} (watchdog): the control thread has not run for {silent_s:.2f} s")

    def counts(self) -> dict[str, dict[str, int]]:
        """Cause -> onsets and control periods, of those that came up, for the report."""
        return {
            cause: {"onsets": seen.onsets, "steps": seen.steps}
            for cause, seen in self.interventions.items()
            if seen.onsets
        }

    def _holds(self, causes: Mapping[Cause, Fault]) -> bool:
        return any(
            fault.serious and self.limits.response(cause) in ("hold", "stop")
            for cause, fault in causes.items()
        )

    def _slowed(self, command: np.ndarray, last: np.ndarray) -> np.ndarray:
        slowed = np.array(command, np.float32)
        start = last if self.limits.kind == "absolute" else np.zeros_like(slowed)
        slowed[self._moves] = (start + SLOW * (slowed - start))[self._moves]
        return slowed

    def _account(self, causes: Mapping[Cause, Fault], *, holding: bool) -> None:
        for cause, fault in causes.items():
            seen = self.interventions[cause]
            if not seen.active:
                seen.active, seen.told = True, False
                seen.onsets += 1
                if not fault.serious:
                    self._log(f"safety: {cause}: {fault.why}; the plan goes on")
            if fault.serious:
                seen.steps += 1
                if not seen.told:
                    seen.told = True
                    self._log(f"safety: {self._verb(cause, holding)} ({cause}): {fault.why}")
        for cause, seen in self.interventions.items():
            if seen.active and cause not in causes:
                seen.active = False
                self._log(f"safety: {cause} is over")

    def _verb(self, cause: Cause, holding: bool) -> str:
        response = self.limits.response(cause)
        # A command that the limits leave no room for is held, whatever the response to each of them.
        return _VERBS["hold" if holding and response == "clamp" else response]
