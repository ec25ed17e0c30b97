"""`application/msgpack`: the same map as JSON, with raw arrays and no base64."""

from __future__ import annotations

from collections.abc import Mapping

import msgpack
import numpy as np

from policy.errors import TinyVLAError
from service.wire import arrays, bounded_msgpack
from service.wire.images import ImageFormat, PixelBudget, decode_image
from service.wire.messages import ActReply, ActRequest
from service.wire.problems import error_of, problem_of
from service.wire.reply_map import read_reply, write_reply
from service.wire.request_map import InlineWriter, read_request, write_request
from service.wire.values import as_map, malformed, shown

CONTENT_TYPE = "application/msgpack"
_ARRAY_KEYS = {"nd", "dtype", "shape", "data"}


class MsgpackArrays:
    """Reads the MessagePack forms of images and arrays; one per request, for its pixel budget."""

    def __init__(self) -> None:
        self._budget = PixelBudget()

    def image(self, value: object, field: str) -> np.ndarray:
        form = as_map(value, field)
        if "nd" in form:
            return _array(form, field)
        if len(form) == 1 and (kind := next(iter(form))) in ("jpeg", "png"):
            data = form[kind]
            if not isinstance(data, bytes):
                raise malformed(f"{field}.{kind}", "bytes", shown(data))
            return decode_image(data, kind, field, self._budget)
        raise malformed(field, "{jpeg: bin}, {png: bin} or an array", f"keys {shown([*form])}")

    def array(self, value: object, field: str) -> np.ndarray:
        if isinstance(value, dict):
            return arrays.as_float32(_array(as_map(value, field), field))
        return arrays.from_lists(value, field)


def pack(value: Mapping[str, object]) -> bytes:
    """MessagePack of a map."""
    return msgpack.packb(value)


def unpack(body: arrays.Buffer, field: str = "body", limit: int = bounded_msgpack.MANY) -> dict[str, object]:
    """A MessagePack map, or `malformed`; extension types are refused where a field holds one."""
    return as_map(bounded_msgpack.unpack(body, field, limit), field)


def encode_request(request: ActRequest, *, image_format: ImageFormat = "raw", quality: int = 90) -> bytes:
    """The body of `POST /act`."""
    return pack(write_request(request, InlineWriter(_array_form, bytes, image_format, quality)))


def decode_request(body: arrays.Buffer) -> ActRequest:
    """Raises `TinyVLAError` (`malformed`, `unsupported_media`, `too_large`) naming the field."""
    return read_fields(unpack(body))


def read_fields(fields: dict[str, object]) -> ActRequest:
    """As `decode_request`, of a body that is unpacked already."""
    return read_request(fields, MsgpackArrays())


def is_raw(fields: dict[str, object]) -> bool:
    """True when no image of a request is a file, so that nothing is left to decode but views of its bytes."""
    images = fields.get("images")
    return isinstance(images, dict) and all(isinstance(i, dict) and "nd" in i for i in images.values())


def encode_reply(reply: ActReply) -> bytes:
    """Actions and uncertainty as arrays."""
    return pack(write_reply(reply, _array_form))


def decode_reply(body: arrays.Buffer) -> ActReply:
    """Raises `malformed` when the body is no reply."""
    return read_reply(unpack(body), MsgpackArrays().array)


def encode_error(error: TinyVLAError) -> bytes:
    """The problem map in MessagePack."""
    return pack(problem_of(error))


def decode_error(body: arrays.Buffer) -> TinyVLAError:
    """The error a body tells; never raises."""
    try:
        return error_of(unpack(body))
    except TinyVLAError:
        return error_of(bytes(body[:100]))


def _array(form: dict[str, object], field: str) -> np.ndarray:
    data = form.get("data")
    if set(form) != _ARRAY_KEYS or form["nd"] is not True or not isinstance(data, bytes):
        raise malformed(field, "{nd: true, dtype, shape, data: bin}", "another map")
    return arrays.from_buffer(data, form["dtype"], form["shape"], field)


def _array_form(array: np.ndarray) -> dict[str, object]:
    sent = arrays.to_wire(array)
    return {"nd": True, "dtype": sent.dtype.str, "shape": list(sent.shape), "data": sent.tobytes()}
