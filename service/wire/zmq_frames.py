"""ZeroMQ messages: a MessagePack header frame and raw array frames, which are viewed and never copied.

A message here is the list of frames without the address and without REQ's empty delimiter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from policy.errors import TinyVLAError
from service.wire import arrays
from service.wire.bounded_msgpack import FEW
from service.wire.images import ImageFormat, PixelBudget, decode_image, encode_image
from service.wire.messages import ActReply, ActRequest
from service.wire.msgpack_codec import pack, unpack
from service.wire.problems import error_of, problem_of
from service.wire.reply_map import read_reply, write_reply
from service.wire.request_map import read_request, write_request
from service.wire.values import as_int, as_map, as_text, malformed, shown

VERSION = 1
OPS = ("act", "reset", "spec", "ping")
_MAX_FRAMES = 128  # more arrays than any robot has streams
_QUICK_HEADER = 2**14  # bytes; lists that take more should not be read where every client waits
MAX_HEADER = 2**20  # bytes; arrays belong into frames, and unpacking is done where every client waits for it

Frames = list[arrays.Buffer]


class Call(NamedTuple):
    """A request's header, read; its arrays stay in their frames until `decode_request`."""

    op: str
    id: int
    token: str | None
    request_id: object  # as the client gave it; None when it gave none
    fields: Mapping[str, object]  # the request map, or the few fields of the other operations
    frames: Sequence[arrays.Buffer]
    header_bytes: int

    @property
    def is_quick_to_read(self) -> bool:
        """True when nothing is left to decode but views of frames: no JPEG or PNG, no long nested lists."""
        images = self.fields.get("images")
        encoded = isinstance(images, dict) and any(
            isinstance(image, dict) and "enc" in image for image in images.values()
        )
        return not encoded and self.header_bytes < _QUICK_HEADER


class Answer(NamedTuple):
    """A reply's header, read."""

    id: int | None  # None when the server could not read the request's id
    error: TinyVLAError | None
    fields: Mapping[str, object]
    frames: Sequence[arrays.Buffer]
    request_id: str | None = None  # under which the server's log has it


class FrameArrays:
    """Reads the header's references to array frames; one per message, for its pixel budget."""

    def __init__(self, frames: Sequence[arrays.Buffer]) -> None:
        self._frames = frames
        self._budget = PixelBudget()

    def image(self, value: object, field: str) -> np.ndarray:
        form = as_map(value, field)
        if set(form) == {"f", "enc"}:
            return decode_image(self._frame(form, field), as_text(form["enc"], field), field, self._budget)
        return self._view(form, field)

    def array(self, value: object, field: str) -> np.ndarray:
        if isinstance(value, dict):
            return arrays.as_float32(self._view(as_map(value, field), field))
        return arrays.from_lists(value, field)

    def _view(self, form: dict[str, object], field: str) -> np.ndarray:
        if set(form) != {"f", "dtype", "shape"}:
            raise malformed(field, "{f, dtype, shape} or, for an image, {f, enc}", f"keys {shown([*form])}")
        return arrays.from_buffer(self._frame(form, field), form["dtype"], form["shape"], field)

    def _frame(self, form: dict[str, object], field: str) -> arrays.Buffer:
        index = form["f"]
        if type(index) is not int or not 0 <= index < len(self._frames):
            raise malformed(f"{field}.f", f"the index of one of {len(self._frames)} frames", shown(index))
        return self._frames[index]


class _Writer:
    def __init__(self, image_format: ImageFormat = "raw", quality: int = 90) -> None:
        self.frames: Frames = []
        self._format, self._quality = image_format, quality

    def image(self, image: np.ndarray) -> object:
        if self._format == "raw":
            return self.array(image)
        self.frames.append(encode_image(image, self._format, self._quality))
        return {"f": len(self.frames) - 1, "enc": self._format}

    def array(self, array: np.ndarray) -> object:
        sent = arrays.to_wire(array)
        # An empty array has no buffer that a byte view could be cast from.
        self.frames.append(sent.data.cast("B") if sent.size else b"")
        return {"f": len(self.frames) - 1, "dtype": sent.dtype.str, "shape": list(sent.shape)}


def encode_request(
    request: ActRequest,
    call_id: int,
    *,
    token: str | None = None,
    request_id: str | None = None,
    image_format: ImageFormat = "raw",
    quality: int = 90,
) -> Frames:
    """An `act` message; raw arrays are sent from where they lie, so leave them unchanged until it is sent."""
    writer = _Writer(image_format, quality)
    fields = write_request(request, writer)
    if request_id is not None:
        fields["request_id"] = request_id
    return [*encode_call("act", call_id, token=token, fields=fields), *writer.frames]


def encode_call(
    op: str, call_id: int, *, token: str | None = None, fields: Mapping[str, object] | None = None
) -> Frames:
    """Any operation's message: `reset` takes `session`, `spec` takes `policy`, `ping` nothing."""
    header: dict[str, object] = {"v": VERSION, "op": op, "id": call_id, **(fields or {})}
    if token is not None:
        header["token"] = token
    return [pack(header)]


def call_id_of(message: Sequence[arrays.Buffer]) -> int | None:
    """The id of a message that may be malformed otherwise, so that its error can be told apart."""
    try:
        if len(message[0]) > MAX_HEADER:
            return None
        return as_int(unpack(message[0], "header", FEW).get("id"), "id")
    except (TinyVLAError, IndexError):
        return None


def decode_call(message: Sequence[arrays.Buffer]) -> Call:
    """Read the header alone; raises `malformed`."""
    if not message:
        raise malformed("message", "a header frame", "no frame")
    if len(message) > _MAX_FRAMES:
        raise malformed("message", f"at most {_MAX_FRAMES} frames", str(len(message)))
    if len(message[0]) > MAX_HEADER:
        raise TinyVLAError(
            "too_large", f"a header may hold {MAX_HEADER} bytes; send arrays as frames", field="header"
        )
    header = unpack(message[0], "header", FEW)
    version, op, token = header.pop("v", None), header.pop("op", None), header.pop("token", None)
    request_id = header.pop("request_id", None)
    call_id = as_int(header.pop("id", None), "id")
    if type(version) is not int or version != VERSION:
        raise malformed("v", str(VERSION), shown(version))
    if not isinstance(op, str) or op not in OPS:
        raise malformed("op", f"one of {', '.join(OPS)}", shown(op))
    checked = as_text(token, "token") if token is not None else None
    return Call(
        op=op,
        id=call_id,
        token=checked,
        request_id=request_id,
        fields=header,
        frames=message[1:],
        header_bytes=len(message[0]),
    )


def decode_request(call: Call) -> ActRequest:
    """Raises `TinyVLAError` (`malformed`, `unsupported_media`, `too_large`) naming the field."""
    return read_request(call.fields, FrameArrays(call.frames))


def encode_reply(call_id: int, reply: ActReply, request_id: str | None = None) -> Frames:
    """The answer to `act`."""
    writer = _Writer()
    fields = write_reply(reply, writer.array)
    return [*encode_answer(call_id, fields, request_id), *writer.frames]


def encode_answer(call_id: int, fields: Mapping[str, object], request_id: str | None = None) -> Frames:
    """The answer to any other operation."""
    return [pack({"v": VERSION, "id": call_id, "ok": True, **_told(request_id), **fields})]


def encode_error(call_id: int | None, error: TinyVLAError, request_id: str | None = None) -> Frames:
    """A refusal; the id is nil when the request's could not be read."""
    header = {"v": VERSION, "id": call_id, "ok": False, **_told(request_id), "error": problem_of(error)}
    return [pack(header)]


def _told(request_id: str | None) -> dict[str, object]:
    return {} if request_id is None else {"request_id": request_id}


def decode_answer(message: Sequence[arrays.Buffer]) -> Answer:
    """Read a reply's header; raises `malformed` when it is none."""
    if not message:
        raise malformed("message", "a header frame", "no frame")
    header = unpack(message[0], "header")
    call_id, good = header.pop("id", None), header.pop("ok", None)
    header.pop("v", None)
    request_id = header.pop("request_id", None)
    return Answer(
        id=call_id if type(call_id) is int else None,
        error=None if good is True else error_of(header.get("error")),
        fields=header,
        frames=message[1:],
        request_id=request_id if isinstance(request_id, str) else None,
    )


def decode_reply(answer: Answer) -> ActReply:
    """The chunk; raises the server's error where it sent one."""
    if answer.error is not None:
        raise answer.error
    return read_reply(answer.fields, FrameArrays(answer.frames).array)
