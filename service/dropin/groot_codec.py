"""GR00T's messages: MessagePack maps whose arrays are `np.save` bytes (older) or msgpack-numpy's maps (newer)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import msgpack
import numpy as np

from policy.spec import PolicySpec
from service.dropin.aliases import Aliases
from service.dropin.npy import read_npy, write_npy
from service.wire import arrays
from service.wire.bounded_msgpack import FEW, unpack
from service.wire.values import as_text, malformed, shown

ArrayForm = Literal["npy", "msgpack-numpy"]


@dataclass(frozen=True)
class GrootCall:
    """One request, its arrays still in their forms."""

    endpoint: str
    token: str | None
    data: object


def read_call(message: bytes | memoryview) -> GrootCall:
    """Raises `malformed` or `too_large`."""
    fields = unpack(message, "message", FEW)
    if not isinstance(fields, dict):
        raise malformed("message", "a map", shown(fields))
    token = fields.get("api_token")
    return GrootCall(
        endpoint=as_text(fields.get("endpoint", "get_action"), "endpoint"),
        token=None if token is None else as_text(token, "api_token"),
        data=fields.get("data"),
    )


class GrootArrays:
    """Reads and writes arrays in the form that the client uses; one per message."""

    def __init__(self) -> None:
        self._form: ArrayForm = "npy"

    def read(self, form: Mapping[object, object], field: str) -> object | None:
        """See `peer_arrays.ReadForm`."""
        if "__ndarray_class__" in form:
            data = form.get("as_npy")
            if not isinstance(data, bytes):
                raise malformed(field, "np.save's bytes under as_npy", shown(data))
            return read_npy(data, field)
        keys = {key.decode("ascii", "replace") if isinstance(key, bytes) else key: key for key in form}
        if "nd" not in keys or "data" not in keys:
            return None
        self._form = "msgpack-numpy"
        value = {name: form[key] for name, key in keys.items()}
        data, dtype, is_array = value["data"], value.get("type"), value["nd"] is True
        if value.get("kind") not in (None, "", b"") or not isinstance(data, bytes):
            raise malformed(field, "an array of numbers", "objects, which would have to be unpickled")
        if isinstance(dtype, bytes):
            dtype = dtype.decode("ascii", "replace")
        array = arrays.from_buffer(
            data, dtype, value.get("shape") if is_array else (), field, arrays.PEER_DTYPES
        )
        return array if is_array else array.item()

    def write(self, array: np.ndarray) -> dict[object, object]:
        """The array in the form that the request's arrays had."""
        sent = arrays.to_wire(array)
        if self._form == "npy":
            return {"__ndarray_class__": True, "as_npy": write_npy(sent)}
        return {
            b"nd": True,
            b"type": sent.dtype.str,
            b"kind": b"",
            b"shape": sent.shape,
            b"data": sent.tobytes(),
        }


def action_keys(dim: int, aliases: Aliases) -> list[tuple[str, slice]]:
    """What the parts of an action are called, without ``action.`` before it; all of it is `actions` by default."""
    named = [
        (alias.key.removeprefix("action."), slice(*alias.part.bounds(dim)))
        for alias in aliases
        if alias.part is not None and alias.part.vector == "action" and alias.part.lies_in(dim)
    ]
    return named or [("actions", slice(0, dim))]


def modality_config(spec: PolicySpec, aliases: Aliases) -> dict[str, object]:
    """What `get_modality_config` tells: the keys that an observation should have, and the ones of the answer."""
    fitting = [alias for alias in aliases if alias.fits(spec)]
    videos = {camera.name: camera.name for camera in spec.cameras}
    videos |= {a.target: a.key.removeprefix("video.") for a in fitting if a.key.startswith("video.")}
    states = [a.key.removeprefix("state.") for a in fitting if a.key.startswith("state.")]
    actions = [name for name, _ in action_keys(spec.action.dim, aliases)]
    return {
        "video": _modality([*videos.values()], [0]),
        "state": _modality(states or ["state"], [0]),
        "action": _modality(actions, list(range(spec.horizon))),
        "language": _modality(["annotation.human.task_description"], [0]),
    }


def write_message(value: object) -> bytes:
    """A whole answer."""
    return msgpack.packb(value)


def _modality(keys: Sequence[str], delta_indices: list[int]) -> dict[str, object]:
    # N1.6 knows the map by the first mark, its successor by the second.
    marks = {"__ModalityConfig_class__": True, "__ModalityConfig__": True}
    return {**marks, "as_json": {"delta_indices": delta_indices, "modality_keys": list(keys)}}
