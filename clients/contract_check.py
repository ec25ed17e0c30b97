"""Whether a policy and a robot fit, before anything moves."""

from __future__ import annotations

from clients.robots.base import RobotInfo
from policy.errors import TinyVLAError, contract_mismatch
from policy.spec import PolicySpec


def check_robot(spec: PolicySpec, info: RobotInfo, control_rate_hz: float | None = None) -> list[str]:
    """Compare the policy's contract with what the robot has.

    Args:
        spec: the policy's contract.
        info: the robot's side.
        control_rate_hz: the rate the operator asked for; None is the robot's own.

    Returns:
        Warnings, a line each: names that differ, and a rate the operator chose against the policy's.

    Raises:
        TinyVLAError: `contract_mismatch`, naming what does not fit.
    """
    missing = sorted({camera.name for camera in spec.cameras} - set(info.cameras))
    if missing:
        raise contract_mismatch(
            "images", f"cameras {', '.join(missing)}", f"the robot has {', '.join(info.cameras) or 'none'}"
        )
    needed = sorted(s.name for s in spec.sensors if not s.optional and s.name not in info.sensors)
    if needed:
        raise contract_mismatch(
            "sensors", ", ".join(needed), f"the robot has {', '.join(info.sensors) or 'none'}"
        )
    if spec.action.kind != info.action_kind:
        raise contract_mismatch(
            "action", f"{spec.action.kind} actions", f"a robot of {info.action_kind} ones"
        )
    warnings = [
        *_names("state", spec.state.names, info.state_names),
        *_names("action", spec.action.names, info.action_names),
    ]
    rate = control_rate_hz or info.control_rate_hz
    if abs(rate - spec.action.rate_hz) > 0.01 * spec.action.rate_hz:
        line = f"the policy's actions are meant for {spec.action.rate_hz:g} Hz, control runs at {rate:g} Hz"
        if control_rate_hz is None:
            raise TinyVLAError(
                "contract_mismatch",
                f"{line}; --control-rate {rate:g} runs it so all the same",
                field="action.rate_hz",
                expected=f"{spec.action.rate_hz:g} Hz",
                actual=f"{rate:g} Hz",
            )
        warnings.append(f"{line}, as asked")
    return warnings


def _names(field: str, wanted: tuple[str, ...], given: tuple[str, ...]) -> list[str]:
    if len(wanted) != len(given) or (wanted != given and set(wanted) == set(given)):
        # The same names in another order would send every value to the wrong place.
        raise contract_mismatch(
            field, f"[{len(wanted)}] ({', '.join(wanted)})", f"[{len(given)}] ({', '.join(given)})"
        )
    if wanted == given:
        return []
    return [f"{field}: the policy calls it ({', '.join(wanted)}), the robot ({', '.join(given)})"]
