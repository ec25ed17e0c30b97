"""One `POST /act`: the body is read as what it turns out to be, and the answer has the same form."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import Response

from policy.errors import TinyVLAError
from service.dropin import openvla
from service.dropin.aliases import Aliases
from service.dropin.peer_request import peer_request, policy_named
from service.engine import Engine
from service.negotiation import reply_codec, request_decoder
from service.wire import json_codec, msgpack_codec
from service.wire.bounded_msgpack import FEW
from service.wire.messages import ActReply, ActRequest

_QUICK = 2**20  # bytes


class ActExchange:
    """Made from the headers, told the body on a decoding thread, asked for the answer on the event loop.

    Args:
        headers: of the request.
        engine: tells what the policy that is asked looks like, where OpenVLA's names have to be understood.
        aliases: what OpenVLA's names mean to the policy.

    Raises:
        TinyVLAError: `unsupported_media`.
    """

    def __init__(self, headers: Mapping[str, str], engine: Engine, aliases: Aliases) -> None:
        media = headers.get("content-type")
        self._read = request_decoder(media, headers.get("content-encoding"))
        self._codec = reply_codec(media, headers.get("accept"))
        self._engine, self._aliases = engine, aliases
        self._unpacked: dict[str, object] | None = None
        self._openvla: openvla.OpenVlaCall | None = None

    def is_quick_to_read(self, body: bytes) -> bool:
        """True when nothing in the body takes long enough to be worth another thread: raw arrays in MessagePack.

        Raises:
            TinyVLAError: as `decode`.
        """
        if self._read is not msgpack_codec.decode_request or len(body) > _QUICK:
            return False
        try:
            self._unpacked = msgpack_codec.unpack(body, limit=FEW)
        except TinyVLAError as error:
            if error.code != "too_large":
                raise
            return False  # so many values may take a tenth of a second
        return msgpack_codec.is_raw(self._unpacked)

    def decode(self, body: bytes) -> ActRequest:
        """Raises `TinyVLAError` naming the field."""
        if self._unpacked is not None:
            return msgpack_codec.read_fields(self._unpacked)
        if self._read is not json_codec.decode_request:
            return self._read(body)
        fields = json_codec.parse(body)
        if not openvla.speaks(fields):
            return json_codec.read_fields(fields)
        call = self._openvla = openvla.read_call(fields)
        spec = self._engine.named(policy_named(call.flat)).spec
        return peer_request(call.flat, spec, self._aliases, openvla.HABITS)

    def answer(self, reply: ActReply) -> Response:
        """The reply as whoever sent the body expects it."""
        if self._openvla is not None:
            return Response(openvla.write_reply(self._openvla, reply), media_type=json_codec.CONTENT_TYPE)
        return Response(self._codec.encode_reply(reply), media_type=self._codec.CONTENT_TYPE)
