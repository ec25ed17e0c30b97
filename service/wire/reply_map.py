"""An `ActReply` to the reply map of PROTOCOLS and back; encodings differ only in how they hold arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from policy.errors import TinyVLAError
from service.wire.messages import ActReply, Timing

_ECHOED = ("session", "seq", "timestamp_ns")


def write_reply(reply: ActReply, array: Callable[[np.ndarray], object]) -> dict[str, object]:
    """The reply map; what the request did not give is not echoed."""
    fields: dict[str, object] = {
        "actions": array(reply.actions),
        "rate_hz": reply.rate_hz,
        "horizon": reply.horizon,
        "policy": reply.policy,
        "ddim_steps": reply.ddim_steps,
        "sampler": reply.sampler,
        "seed": reply.seed,
        "timing_ms": dict(vars(reply.timing_ms)),
    }
    if reply.uncertainty is not None:
        fields["uncertainty"] = array(reply.uncertainty)
    for key in (*_ECHOED, "vl_age_ms"):
        if (value := getattr(reply, key)) is not None:
            fields[key] = value
    return fields


def read_reply(fields: Mapping[str, object], array: Callable[[object, str], np.ndarray]) -> ActReply:
    """Read a reply; fields that are not known here are left for newer readers.

    Raises:
        TinyVLAError: `malformed` when the server's reply lacks what a reply must have.
    """
    try:
        timing = fields["timing_ms"]
        return ActReply(
            actions=array(fields["actions"], "actions"),
            rate_hz=float(fields["rate_hz"]),  # type: ignore[arg-type]
            horizon=int(fields["horizon"]),  # type: ignore[call-overload]
            policy=str(fields["policy"]),
            ddim_steps=int(fields["ddim_steps"]),  # type: ignore[call-overload]
            sampler=str(fields["sampler"]),
            seed=int(fields["seed"]),  # type: ignore[call-overload]
            timing_ms=Timing(**{key: timing[key] for key in Timing.__dataclass_fields__}),  # type: ignore[index]
            uncertainty=array(fields["uncertainty"], "uncertainty") if "uncertainty" in fields else None,
            vl_age_ms=float(fields["vl_age_ms"]) if "vl_age_ms" in fields else None,  # type: ignore[arg-type]
            **{key: fields.get(key) for key in _ECHOED},  # type: ignore[arg-type]
        )
    except (KeyError, TypeError, ValueError) as error:
        raise TinyVLAError("malformed", f"the server's reply does not read: {error!r:.200}") from None
