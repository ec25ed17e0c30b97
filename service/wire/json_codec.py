"""`application/json`: images as base64, replies as nested lists that any language reads."""

from __future__ import annotations

import base64
import binascii
import json

import numpy as np

from policy.errors import TinyVLAError
from service.wire import arrays
from service.wire.images import ImageFormat, PixelBudget, decode_image
from service.wire.messages import ActReply, ActRequest
from service.wire.problems import error_of, problem_of
from service.wire.reply_map import read_reply, write_reply
from service.wire.request_map import InlineWriter, read_request, write_request
from service.wire.values import as_map, malformed, shown

CONTENT_TYPE = "application/json"
PROBLEM_CONTENT_TYPE = "application/problem+json"
_MOST = {b",": 200_000, b"[": 20_000, b"{": 5_000}  # 30 ms of reading at worst


class JsonArrays:
    """Reads the JSON forms of images and arrays; one per request, as it holds the request's pixel budget."""

    def __init__(self) -> None:
        self._budget = PixelBudget()

    def image(self, value: object, field: str) -> np.ndarray:
        form = as_map(value, field)
        if set(form) == {"data", "shape", "dtype"}:
            return _raw(form, field)
        if len(form) == 1 and (kind := next(iter(form))) in ("jpeg", "png"):
            return decode_image(as_base64(form[kind], f"{field}.{kind}"), kind, field, self._budget)
        raise malformed(
            field, "{jpeg: base64}, {png: base64} or {data, shape, dtype}", f"keys {shown([*form])}"
        )

    def array(self, value: object, field: str) -> np.ndarray:
        if isinstance(value, dict):
            form = as_map(value, field)
            if set(form) != {"data", "shape", "dtype"}:
                raise malformed(field, "nested lists or {data, shape, dtype}", "another map")
            return arrays.as_float32(_raw(form, field))
        return arrays.from_lists(value, field)


def encode_request(request: ActRequest, *, image_format: ImageFormat = "raw", quality: int = 90) -> bytes:
    """The body of `POST /act`."""
    writer = InlineWriter(_array_form, _text, image_format, quality)
    return json.dumps(write_request(request, writer), separators=(",", ":")).encode()


def parse(body: arrays.Buffer) -> dict[str, object]:
    """A JSON object, or `malformed`; NaN is let through, so that the check of its field can name it."""
    body = bytes(body)
    # The interpreter's lock is held while JSON is read, and what is nested takes a hundred times as long as base64.
    for sign, limit in _MOST.items():
        if body.count(sign) > limit:
            raise TinyVLAError(
                "too_large",
                f"the body holds more than {limit} {sign.decode()!r}; send arrays as base64",
                field="body",
                expected=f"at most {limit} {sign.decode()!r}",
                actual="more",
            )
    try:
        value = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise TinyVLAError(
            "malformed", f"the body is no JSON: {error!s:.120}", field="body", expected="a JSON object"
        ) from None
    return as_map(value, "body")


def decode_request(body: arrays.Buffer) -> ActRequest:
    """Raises `TinyVLAError` (`malformed`, `unsupported_media`, `too_large`) naming the field."""
    return read_fields(parse(body))


def read_fields(fields: dict[str, object]) -> ActRequest:
    """As `decode_request`, of a body that is parsed already."""
    return read_request(fields, JsonArrays())


def encode_reply(reply: ActReply) -> bytes:
    """Actions as nested lists; float32 survives the way through decimal text exactly."""
    return json.dumps(write_reply(reply, np.ndarray.tolist), separators=(",", ":"), allow_nan=False).encode()


def decode_reply(body: arrays.Buffer) -> ActReply:
    """Raises `malformed` when the body is no reply."""
    return read_reply(parse(body), arrays.from_lists)


def encode_error(error: TinyVLAError) -> bytes:
    """RFC 9457 problem details."""
    return json.dumps(problem_of(error), separators=(",", ":")).encode()


def decode_error(body: arrays.Buffer) -> TinyVLAError:
    """The error a body tells; never raises."""
    try:
        return error_of(parse(body))
    except TinyVLAError:
        return error_of(bytes(body[:100]))


def _raw(form: dict[str, object], field: str) -> np.ndarray:
    return arrays.from_buffer(as_base64(form["data"], f"{field}.data"), form["dtype"], form["shape"], field)


def _array_form(array: np.ndarray) -> object:
    if array.ndim == 1:
        return array.tolist()
    sent = arrays.to_wire(array)
    return {"data": _text(sent.tobytes()), "shape": list(sent.shape), "dtype": sent.dtype.name}


def as_base64(value: object, field: str) -> bytes:
    """The bytes of base64 text, or `malformed`."""
    if not isinstance(value, str):
        raise malformed(field, "base64 text", shown(value))
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise malformed(field, "base64 text", "text that does not decode") from None


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
