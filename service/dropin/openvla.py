"""OpenVLA's and OpenVLA-OFT's dialect of `POST /act`: json-numpy in, bare actions out.

OpenVLA sends one `image` and gets one action; OFT sends `full_image`, `wrist_image` and `state` and gets the chunk.
Either may wrap its JSON as text under the single key `encoded`, and then gets its answer as text too.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from service.dropin.peer_arrays import flatten
from service.dropin.peer_request import Habits
from service.wire import arrays
from service.wire.json_codec import as_base64, parse
from service.wire.messages import ActReply
from service.wire.values import malformed, shown

HABITS = Habits(
    separator="/",
    cameras=("full_image", "image"),
    states=("state", "proprio"),
    instructions=("instruction", "task_description"),
)


@dataclass(frozen=True)
class OpenVlaCall:
    """A body, read, and the form of the answer that its sender waits for."""

    flat: Mapping[str, object]
    wants_chunk: bool
    wrapped: bool  # came as text under `encoded`, and goes back as text


def speaks(fields: Mapping[str, object]) -> bool:
    """Whether a JSON body is of this dialect rather than of ours, which has `images`."""
    return "images" not in fields and not fields.keys().isdisjoint(("image", "full_image", "encoded"))


def read_call(fields: Mapping[str, object]) -> OpenVlaCall:
    """Read a body of which `speaks` is true; raises `malformed`."""
    wrapped = "encoded" in fields
    if wrapped:
        inner = fields["encoded"]
        if not isinstance(inner, str) or len(fields) > 1:
            raise malformed("encoded", "JSON as text, and no other key", shown(inner))
        fields = parse(inner.encode("utf-8", "surrogatepass"))
    return OpenVlaCall(flatten(fields, HABITS.separator, _read_form), "full_image" in fields, wrapped)


def write_reply(call: OpenVlaCall, reply: ActReply) -> bytes:
    """The first action, or the chunk as a list of actions."""
    answer: object = [*map(_nd, reply.actions)] if call.wants_chunk else _nd(reply.actions[0])
    text = json.dumps(answer, separators=(",", ":"))
    return (json.dumps(text) if call.wrapped else text).encode()


def _nd(array: np.ndarray) -> dict[str, object]:
    sent = arrays.to_wire(array)
    data = base64.b64encode(sent.tobytes()).decode("ascii")
    return {"__numpy__": data, "dtype": sent.dtype.str, "shape": list(sent.shape)}


def _read_form(form: Mapping[object, object], field: str) -> object | None:
    if "__numpy__" not in form:
        return None
    data = as_base64(form["__numpy__"], field)
    array = arrays.from_buffer(data, form.get("dtype"), form.get("shape"), field, arrays.PEER_DTYPES)
    return array.item() if array.ndim == 0 else array
