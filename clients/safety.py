"""The last word before a command reaches the robot: clamp, hold, count, say why once, recover by itself.

On by default. Pure: times are passed in, commands come back. Each kind of intervention has an onset
(logged once) and ends by itself when its cause is gone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from policy.spec import ActionSpec

Cause = Literal["bounds", "max_change", "non_finite", "starved", "stale_observation", "stale_server"]


@dataclass(frozen=True)
class SafetyLimits:
    """What a command must respect."""

    low: np.ndarray  # float32 [A], physical units
    high: np.ndarray
    max_change: np.ndarray | None = None  # [A] largest change from one command to the next; None: unlimited
    stale_after_s: float = 1.0  # oldest observation that a command may rest on

    @classmethod
    def of(
        cls, action: ActionSpec, *, stale_after_s: float = 1.0, max_change: float | None = None
    ) -> SafetyLimits:
        """Bounds of the action spec; `max_change` as a fraction of each dimension's range."""
        low, high = np.asarray(action.low, np.float32), np.asarray(action.high, np.float32)
        change = None if max_change is None else (max_change * (high - low)).astype(np.float32)
        return cls(low, high, change, stale_after_s)


@dataclass
class Intervention:
    """How often one cause intervened."""

    onsets: int = 0
    steps: int = 0
    active: bool = False


@dataclass
class SafetyLayer:
    """Judges one command per control step.

    Args:
        limits: what to enforce.
        log: told one line at each onset and one when the cause is gone.
    """

    limits: SafetyLimits
    log: Callable[[str], None] = lambda line: None
    interventions: dict[Cause, Intervention] = field(default_factory=dict)

    def command(
        self,
        planned: np.ndarray | None,
        last: np.ndarray,
        *,
        plan_age_s: float,
        server_trouble: bool = False,
    ) -> np.ndarray | None:
        """The command to send, or None to hold.

        Args:
            planned: float32 [A] from the chunk buffer; None when it is starved.
            last: float32 [A], the command before.
            plan_age_s: age of the observation that `planned` rests on; ignored when starved.
            server_trouble: a reply is overdue or failed, which names the culprit of a stale plan.
        """
        causes: list[tuple[Cause, str]] = []
        command: np.ndarray | None = None
        if planned is None:
            causes.append(("starved", "no action is planned for this step"))
        elif not np.isfinite(planned).all():
            causes.append(("non_finite", "the planned action holds NaN or infinity"))
        elif plan_age_s > self.limits.stale_after_s:
            age = f"the plan rests on an observation {plan_age_s:.2f} s old"
            if server_trouble:
                causes.append(("stale_server", f"{age}; the server does not answer"))
            else:
                causes.append(("stale_observation", f"{age}; the robot delivers no newer one"))
        else:
            command = self._clamped(planned, last, causes)
        self._account(dict(causes), holding=command is None)
        return command

    def _clamped(self, planned: np.ndarray, last: np.ndarray, causes: list[tuple[Cause, str]]) -> np.ndarray:
        limits = self.limits
        command = np.clip(planned, limits.low, limits.high)
        if not np.array_equal(command, planned):
            worst = float(np.max(np.abs(planned - command)))
            causes.append(("bounds", f"the planned action exceeds its bounds by {worst:.3g}"))
        if limits.max_change is not None:
            limited = np.clip(command, last - limits.max_change, last + limits.max_change)
            # The last command may lie outside the bounds' reach (a robot that was moved by hand).
            limited = np.clip(limited, limits.low, limits.high)
            if not np.array_equal(limited, command):
                causes.append(("max_change", "the planned action changes faster than allowed"))
            command = limited
        return np.asarray(command, np.float32)

    def _account(self, causes: dict[Cause, str], *, holding: bool) -> None:
        for cause, why in causes.items():
            seen = self.interventions.setdefault(cause, Intervention())
            seen.steps += 1
            if not seen.active:
                seen.active = True
                seen.onsets += 1
                self.log(f"safety: {'holding' if holding else 'clamping'} ({cause}): {why}")
        for cause, seen in self.interventions.items():
            if seen.active and cause not in causes:
                seen.active = False
                self.log(f"safety: {cause} is over")

    def counts(self) -> dict[str, dict[str, int]]:
        """Cause -> onsets and control steps, for the report."""
        return {cause: {"onsets": i.onsets, "steps": i.steps} for cause, i in self.interventions.items()}
