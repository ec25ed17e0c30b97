"""`multipart/form-data`: a `payload` part with the JSON, and one part per image, named by its camera."""

from __future__ import annotations

import json
import secrets
from typing import Literal

import numpy as np
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from policy.errors import TinyVLAError
from service.wire.arrays import Buffer
from service.wire.images import decode_image, encode_image
from service.wire.json_codec import JsonArrays, parse
from service.wire.messages import ActRequest
from service.wire.request_map import read_request, write_request
from service.wire.values import encodable, malformed

CONTENT_TYPE = "multipart/form-data"
_PAYLOAD = "payload"
_MAX_PARTS = 65  # the payload and as many cameras as a request map may hold


class _Parts:
    """Collects the parts by name while the parser walks the body."""

    def __init__(self) -> None:
        self.by_name: dict[str, bytearray] = {}
        self.complete = False
        self._header, self._value, self._disposition = bytearray(), bytearray(), b""
        self._data = bytearray()

    def on_part_begin(self) -> None:
        self._disposition, self._data = b"", bytearray()

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def on_header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._header, self._value = bytearray(), bytearray()

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._data += data[start:end]

    def on_part_end(self) -> None:
        _, options = parse_options_header(self._disposition)
        if b"name" not in options:
            raise malformed("body", "a name in every part's Content-Disposition", "a part without one")
        name = options[b"name"].decode("utf-8", "backslashreplace")
        if name in self.by_name:
            raise malformed(name, "one part of this name", "several")
        if len(self.by_name) == _MAX_PARTS:
            raise malformed("body", f"at most {_MAX_PARTS} parts", "more")
        self.by_name[name] = self._data

    def on_end(self) -> None:
        self.complete = True


def decode_request(body: Buffer, content_type: str) -> ActRequest:
    """Read a form.

    Args:
        body: the whole body.
        content_type: the Content-Type header, which holds the boundary.

    Raises:
        TinyVLAError: `malformed`, `unsupported_media` or `too_large`, naming the part or field.
    """
    parts = _split(body, content_type)
    if _PAYLOAD not in parts:
        raise malformed(_PAYLOAD, "a part with the request's JSON", "no such part")
    fields = parse(parts.pop(_PAYLOAD))
    if "images" in fields:
        raise malformed("images", "each image in a part named after its camera", "images in the payload")
    return read_request({**fields, "images": parts}, _FormArrays())


def encode_request(
    request: ActRequest, *, image_format: Literal["jpeg", "png"] = "png", quality: int = 90
) -> tuple[bytes, str]:
    """The body and its Content-Type."""
    fields = write_request(request, _JsonWriter())
    images = {
        name: encode_image(image, image_format, quality) for name, image in request.observation.images.items()
    }
    del fields["images"]
    boundary = secrets.token_hex(16)
    pieces = [_part(boundary, f'name="{_PAYLOAD}"', "application/json", json.dumps(fields).encode())]
    pieces += [
        _part(boundary, f'name="{name}"; filename="{name}.{image_format}"', f"image/{image_format}", data)
        for name, data in images.items()
    ]
    return b"".join([*pieces, f"--{boundary}--\r\n".encode()]), f"{CONTENT_TYPE}; boundary={boundary}"


class _FormArrays(JsonArrays):
    """Images are the parts' own bytes; everything else is JSON."""

    def image(self, value: object, field: str) -> np.ndarray:
        if not isinstance(value, bytearray):
            raise malformed(field, "an image file", type(value).__name__)
        return decode_image(value, None, field, self._budget)


class _JsonWriter:
    def image(self, image: np.ndarray) -> object:
        return None  # sent as a part of its own

    def array(self, array: np.ndarray) -> object:
        return array.tolist()


def _split(body: Buffer, content_type: str) -> dict[str, bytearray]:
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if not boundary:
        raise malformed("Content-Type", "multipart/form-data with a boundary", "no boundary")
    parts = _Parts()
    callbacks = {name: getattr(parts, name) for name in vars(_Parts) if name.startswith("on_")}
    try:
        parser = MultipartParser(boundary, callbacks)  # type: ignore[arg-type]
        parser.write(bytes(body))
        parser.finalize()
    except FormParserError as error:
        raise TinyVLAError(
            "malformed", f"the body is no multipart form: {encodable(str(error))[:120]}", field="body"
        ) from None
    if not parts.complete:
        raise malformed("body", "a form that ends with its boundary", "one that is cut off")
    return parts.by_name


def _part(boundary: str, disposition: str, media: str, data: bytes) -> bytes:
    head = f"--{boundary}\r\nContent-Disposition: form-data; {disposition}\r\nContent-Type: {media}\r\n\r\n"
    return head.encode() + data + b"\r\n"
