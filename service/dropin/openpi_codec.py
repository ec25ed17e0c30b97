"""openpi's messages: MessagePack maps in which arrays are maps with binary keys."""

from __future__ import annotations

from collections.abc import Mapping

import msgpack
import numpy as np

from policy.spec import PolicySpec
from service.dropin.peer_arrays import flatten
from service.dropin.peer_request import Habits
from service.wire import arrays
from service.wire.bounded_msgpack import FEW, unpack
from service.wire.messages import ActReply
from service.wire.values import malformed, shown

HABITS = Habits(
    separator="/",
    cameras=("observation/image", "image", "observation/exterior_image_1_left"),
    states=("observation/state", "state"),
    instructions=("prompt",),
)


def read_message(message: bytes) -> dict[str, object]:
    """An observation, flattened: ``images`` of ``{name: array}`` becomes ``images/name``; raises `malformed`."""
    return flatten(unpack(message, "message", FEW), HABITS.separator, _read_form)


def write_metadata(spec: PolicySpec, label: str) -> bytes:
    """What the server says first; openpi leaves the content to the server."""
    return msgpack.packb(
        {
            "policy": label,
            "cameras": [camera.name for camera in spec.cameras],
            "state": list(spec.state.names),
            "actions": list(spec.action.names),
            "action_horizon": spec.horizon,
            "rate_hz": spec.action.rate_hz,
        }
    )


def write_reply(reply: ActReply, infer_ms: float, previous_total_ms: float | None) -> bytes:
    """The chunk; `actions` is the only array, as openpi's ActionChunkBroker cuts every array by time steps."""
    server_timing = {"infer_ms": infer_ms}
    if previous_total_ms is not None:
        server_timing["prev_total_ms"] = previous_total_ms
    return msgpack.packb(
        {
            "actions": _write_array(reply.actions),
            "policy_timing": {"infer_ms": reply.timing_ms.encode + reply.timing_ms.sample},
            "server_timing": server_timing,
            "policy": reply.policy,
            "seed": reply.seed,
            "ddim_steps": reply.ddim_steps,
        }
    )


def _write_array(array: np.ndarray) -> dict[bytes, object]:
    sent = arrays.to_wire(array)
    return {b"__ndarray__": True, b"data": sent.tobytes(), b"dtype": sent.dtype.str, b"shape": sent.shape}


def _read_form(form: Mapping[object, object], field: str) -> object | None:
    if b"__ndarray__" in form:
        data = form.get(b"data")
        if not isinstance(data, bytes):
            raise malformed(field, "an array with its data as bytes", shown(data))
        return arrays.from_buffer(data, form.get(b"dtype"), form.get(b"shape"), field, arrays.PEER_DTYPES)
    if b"__npgeneric__" in form:
        value = form.get(b"data")
        if not isinstance(value, bool | int | float | str):
            raise malformed(field, "a number or text", shown(value))
        return value
    return None
