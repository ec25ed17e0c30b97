"""`application/json`: images as base64, replies as nested lists that any language reads."""

from __future__ import annotations

import base64
import binascii
import json

import numpy as np

from policy.errors import TinyVLAError
from service.wire import arrays
from service.wire.images import ImageFormat, PixelBudget, decode_image, encode_image
from service.wire.messages import ActReply, ActRequest
from service.wire.problems import error_of, problem_of
from service.wire.reply_map import read_reply, write_reply
from service.wire.request_map import read_request, write_request
from service.wire.values import as_map, malformed, shown

CONTENT_TYPE = "application/json"
PROBLEM_CONTENT_TYPE = "application/problem+json"


class JsonArrays:
    """Reads the JSON forms of images and arrays; one per request, as it holds the request's pixel budget."""

    def __init__(self) -> None:
        self._budget = PixelBudget()

    def image(self, value: object, field: str) -> np.ndarray:
        form = as_map(value, field)
        if set(form) == {"data", "shape", "dtype"}:
            return _raw(form, field)
        if len(form) == 1 and (kind := next(iter(form))) in ("jpeg", "png"):
            return decode_image(_base64(form[kind], f"{field}.{kind}"), kind, field, self._budget)
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


class _Writer:
    def __init__(self, image_format: ImageFormat, quality: int) -> None:
        self._format, self._quality = image_format, quality

    def image(self, image: np.ndarray) -> object:
        if self._format == "raw":
            return _raw_form(image)
        return {self._format: _text(encode_image(image, self._format, self._quality))}

    def array(self, array: np.ndarray) -> object:
        return array.tolist() if array.ndim == 1 else _raw_form(array)


def encode_request(request: ActRequest, *, image_format: ImageFormat = "raw", quality: int = 90) -> bytes:
    """The body of `POST /act`."""
    return json.dumps(write_request(request, _Writer(image_format, quality)), separators=(",", ":")).encode()


def parse(body: arrays.Buffer) -> dict[str, object]:
    """A JSON object, or `malformed`; NaN is let through, so that the check of its field can name it."""
    try:
        value = json.loads(bytes(body).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise TinyVLAError(
            "malformed", f"the body is no JSON: {error!s:.120}", field="body", expected="a JSON object"
        ) from None
    return as_map(value, "body")


def decode_request(body: arrays.Buffer) -> ActRequest:
    """Raises `TinyVLAError` (`malformed`, `unsupported_media`, `too_large`) naming the field."""
    return read_request(parse(body), JsonArrays())


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
    return arrays.from_buffer(_base64(form["data"], f"{field}.data"), form["dtype"], form["shape"], field)


def _raw_form(array: np.ndarray) -> dict[str, object]:
    sent = arrays.to_wire(array)
    return {"data": _text(sent.tobytes()), "shape": list(sent.shape), "dtype": sent.dtype.name}


def _base64(value: object, field: str) -> bytes:
    if not isinstance(value, str):
        raise malformed(field, "base64 text", shown(value))
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise malformed(field, "base64 text", "text that does not decode") from None


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
