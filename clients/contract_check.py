"""Whether a policy and a robot fit, before anything moves, and a policy that takes the place of another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from policy.errors import TinyVLAError, contract_mismatch

if TYPE_CHECKING:
    from clients.robots.base import RobotInfo
    from policy.spec import PolicySpec


@dataclass(frozen=True)
class Expects:
    """The robot's side of the contract; what is None is not compared."""

    cameras: Sequence[str] | None = None  # it can send these; the policy may look at fewer
    sensors: Sequence[str] | None = None  # likewise
    state_names: Sequence[str] | None = None  # in this order
    action_names: Sequence[str] | None = None  # in this order
    action_kind: str | None = None  # delta, absolute or velocity
    rate_hz: float | None = None  # at which it executes actions

    def check(self, spec: PolicySpec) -> list[str]:
        """Compare with a policy's contract.

        Returns:
            Warnings, a line each: as many states or actions, under other names.

        Raises:
            TinyVLAError: `contract_mismatch`, naming what does not fit.
        """
        if self.cameras is not None:
            missing = sorted({camera.name for camera in spec.cameras} - set(self.cameras))
            if missing:
                raise contract_mismatch("images", f"cameras {', '.join(missing)}", _those(self.cameras))
        if self.sensors is not None:
            needed = sorted(s.name for s in spec.sensors if not s.optional and s.name not in self.sensors)
            if needed:
                raise contract_mismatch("sensors", ", ".join(needed), _those(self.sensors))
        if self.action_kind not in (None, spec.action.kind):
            raise contract_mismatch(
                "action", f"{spec.action.kind} actions", f"a robot of {self.action_kind} ones"
            )
        if self.rate_hz is not None and not same_rate(self.rate_hz, spec):
            raise contract_mismatch("action.rate_hz", f"{spec.action.rate_hz:g} Hz", f"{self.rate_hz:g} Hz")
        return [
            *_names("state", spec.state.names, self.state_names),
            *_names("action", spec.action.names, self.action_names),
        ]


def check_robot(
    spec: PolicySpec, info: RobotInfo, control_rate_hz: float | None = None, *, other_rate: str | None = None
) -> list[str]:
    """Compare the policy's contract with what the robot has.

    Args:
        spec: the policy's contract.
        info: the robot's side.
        control_rate_hz: the rate the operator asked for; None is the robot's own.
        other_rate: said of a rate that is not the policy's where the operator cannot ask for one.

    Returns:
        Warnings, a line each: names that differ, and a rate the operator chose against the policy's.

    Raises:
        TinyVLAError: `contract_mismatch`, naming what does not fit.
    """
    warnings = Expects(
        info.cameras, info.sensors, info.state_names, info.action_names, info.action_kind
    ).check(spec)
    rate = control_rate_hz or info.control_rate_hz
    if not same_rate(rate, spec):
        line = f"the policy's actions are meant for {spec.action.rate_hz:g} Hz, control runs at {rate:g} Hz"
        if control_rate_hz is None:
            raise TinyVLAError(
                "contract_mismatch",
                f"{line}; {other_rate or f'--control-rate {rate:g} runs it so all the same'}",
                field="action.rate_hz",
                expected=f"{spec.action.rate_hz:g} Hz",
                actual=f"{rate:g} Hz",
            )
        warnings.append(f"{line}, as asked")
    return warnings


def check_stand_in(first: PolicySpec, other: PolicySpec) -> None:
    """Compare two policies' contracts: whether the second may answer in the middle of a run that the first began.

    Stricter than with a robot, whose drivers may call things otherwise: names and units have to be the same.

    Raises:
        TinyVLAError: `contract_mismatch`, naming what differs.
    """
    for field in ("state", "action"):
        was, now = getattr(first, field), getattr(other, field)
        for part in ("names", "units"):
            if getattr(was, part) != getattr(now, part):
                expected, actual = ", ".join(getattr(was, part)), ", ".join(getattr(now, part))
                raise contract_mismatch(f"{field}.{part}", expected, f"{actual}, of {other.label}")
    Expects(
        cameras=[camera.name for camera in first.cameras],
        sensors=[sensor.name for sensor in first.sensors],
        action_kind=first.action.kind,
        rate_hz=first.action.rate_hz,
    ).check(other)


def same_rate(rate_hz: float, spec: PolicySpec) -> bool:
    """Within a hundredth: a robot's 79.8 Hz are the policy's 80."""
    return abs(rate_hz - spec.action.rate_hz) <= 0.01 * spec.action.rate_hz


def _those(names: Sequence[str]) -> str:
    return f"the robot has {', '.join(names) or 'none'}"


def _names(field: str, wanted: tuple[str, ...], given: Sequence[str] | None) -> list[str]:
    if given is None or wanted == tuple(given):
        return []
    # A name that both have, in another place, would send values to the wrong one.
    elsewhere = any(name in given and given[place] != name for place, name in enumerate(wanted[: len(given)]))
    if len(wanted) != len(given) or elsewhere:
        raise contract_mismatch(
            field, f"[{len(wanted)}] ({', '.join(wanted)})", f"[{len(given)}] ({', '.join(given)})"
        )
    return [f"{field}: the policy calls it ({', '.join(wanted)}), the robot ({', '.join(given)})"]
