"""The WebSocket at `/`, where openpi's clients connect: one map in, one chunk out, until either side leaves."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from functools import partial

from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from policy.errors import TinyVLAError
from service.access_log import answered
from service.auth import check_caller
from service.dropin import openpi_codec
from service.dropin.aliases import Aliases
from service.dropin.peer_request import peer_request, policy_named
from service.engine import as_refusal
from service.intake import Intake
from service.request_id import begin
from service.vanished import Listener, Vanished
from service.wire import json_codec
from service.wire.messages import ActRequest
from service.wire.problems import problem_of
from service.wire.values import malformed

_QUICK = 2**20  # bytes; a larger message is read on the decoding threads, as the event loop must not stall
_INTERNAL_ERROR = 1011  # the close code that openpi's own server uses


class OpenpiDoor:
    """Answers WebSocket connections.

    Args:
        intake: where observations go.
        token: what `Authorization: Api-Key` (or `Bearer`) must hold; None leaves the door open.
        aliases: what the clients' keys mean to the policy.
    """

    def __init__(self, intake: Intake, token: str | None, aliases: Aliases) -> None:
        self._intake, self._engine = intake, intake.engine
        self._token, self._aliases = token, aliases
        self._count = itertools.count(1)

    async def serve(self, socket: WebSocket) -> None:
        """Serve one connection to its end."""
        try:
            check_caller(self._token, socket.headers)
        except TinyVLAError as error:
            await self._turn_away(socket, error)
            return
        await socket.accept()
        listener = Listener(socket.receive)
        try:
            await self._converse(socket, listener)
        except (Vanished, WebSocketDisconnect):  # heard of while listening, or while telling
            return
        except Exception as error:
            await self._close(socket, as_refusal(error))
        finally:
            listener.close()

    async def _converse(self, socket: WebSocket, listener: Listener) -> None:
        # openpi's server listens only once its model is loaded, so its clients know no other way to wait.
        await asyncio.shield(asyncio.wrap_future(self._engine.ready))
        policy = self._engine.policy
        await socket.send_bytes(openpi_codec.write_metadata(policy.spec, policy.label))
        session = f"openpi-{next(self._count)}"
        previous_ms: float | None = None
        while True:
            message = (await listener.next()).get("bytes")
            arrived = begin().began
            if message is None:
                raise malformed("message", "a binary frame", "a text frame")
            accept = self._intake.accept_here if len(message) < _QUICK else self._intake.accept
            read = partial(self._read, message, session)
            reply = await listener.answer(accept(read, arrived, client=session))
            infer_ms = (time.monotonic() - arrived) * 1e3
            await socket.send_bytes(openpi_codec.write_reply(reply, infer_ms, previous_ms))
            previous_ms = (time.monotonic() - arrived) * 1e3
            answered(self._engine.metrics, "openpi", "ok")

    def _read(self, message: bytes, session: str) -> ActRequest:
        flat = openpi_codec.read_message(message)
        spec = self._engine.named(policy_named(flat)).spec
        return peer_request(flat, spec, self._aliases, openpi_codec.HABITS, session)

    async def _turn_away(self, socket: WebSocket, error: TinyVLAError) -> None:
        body = json_codec.encode_error(error)
        refusal = Response(body, error.status, media_type=json_codec.PROBLEM_CONTENT_TYPE)
        await socket.send_denial_response(refusal)
        answered(self._engine.metrics, "openpi", error.code, error)

    async def _close(self, socket: WebSocket, error: TinyVLAError) -> None:
        """openpi's form of an error: a text frame, then the end of the connection."""
        answered(self._engine.metrics, "openpi", error.code, error)
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):  # the client has left meanwhile
            await socket.send_text(f"{error.code}: {problem_of(error)['detail']}")
            await socket.close(_INTERNAL_ERROR, error.code)
