"""Which encoding a body has, and which one its reply gets: negotiation as in RFC 9110."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import ModuleType

from policy.errors import TinyVLAError
from service.wire import json_codec, msgpack_codec, multipart_codec
from service.wire.messages import ActRequest

_MSGPACK = ("application/msgpack", "application/x-msgpack", "application/vnd.msgpack")
_CODECS: dict[str, ModuleType] = {
    json_codec.CONTENT_TYPE: json_codec,
    json_codec.PROBLEM_CONTENT_TYPE: json_codec,
    **dict.fromkeys(_MSGPACK, msgpack_codec),
}


def request_decoder(content_type: str | None, content_encoding: str | None) -> Callable[[bytes], ActRequest]:
    """The function that reads such a body; raises `unsupported_media`."""
    if content_encoding not in (None, "", "identity"):
        raise _unsupported("Content-Encoding", "identity", content_encoding)
    media = _media(content_type)
    if media == json_codec.CONTENT_TYPE:
        return json_codec.decode_request
    if media in _MSGPACK:
        return msgpack_codec.decode_request
    if media == multipart_codec.CONTENT_TYPE:
        return partial(multipart_codec.decode_request, content_type=content_type or "")
    expected = f"{json_codec.CONTENT_TYPE}, {msgpack_codec.CONTENT_TYPE} or {multipart_codec.CONTENT_TYPE}"
    raise _unsupported("Content-Type", expected, content_type)


def reply_codec(content_type: str | None, accept: str | None) -> ModuleType:
    """`json_codec` or `msgpack_codec`: what `Accept` likes best, otherwise what the request came in.

    Where `Accept` names neither, the request's own encoding is better than no answer.
    """
    own = msgpack_codec if _media(content_type) in _MSGPACK else json_codec
    best, best_quality = own, 0.0
    for item in (accept or "").split(","):
        media, quality = _media(item), _quality(item)
        codec = own if media in ("*/*", "application/*") else _CODECS.get(media)
        if codec is not None and (quality > best_quality or (quality == best_quality > 0 and codec is own)):
            best, best_quality = codec, quality
    return best


def _media(value: str | None) -> str:
    return (value or "").partition(";")[0].strip().lower()


def _quality(item: str) -> float:
    for parameter in item.split(";")[1:]:
        key, _, value = parameter.partition("=")
        if key.strip().lower() == "q":
            try:
                return min(1.0, max(0.0, float(value)))
            except ValueError:
                return 0.0
    return 1.0


def _unsupported(field: str, expected: str, actual: str | None) -> TinyVLAError:
    came = (actual or "nothing")[:100]
    return TinyVLAError(
        "unsupported_media",
        f"{field}: expected {expected}, got {came}",
        field=field,
        expected=expected,
        actual=came,
    )
