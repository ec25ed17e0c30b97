"""Noticing that a client has left while its answer is being made, so that its request costs no run."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import Future
from typing import Any, TypeVar

_QUICK_S = 0.002  # an answer within this time is not worth listening beside
Message = MutableMapping[str, Any]  # of ASGI
Result = TypeVar("Result")


class Vanished(Exception):
    """The client has left; nobody waits for an answer."""


class Listener:
    """Reads a connection's ASGI messages, one ahead while an answer is awaited.

    Args:
        receive: of the connection.
    """

    def __init__(self, receive: Callable[[], Awaitable[Message]]) -> None:
        self._receive = receive
        self._coming: asyncio.Future[Message] | None = None

    async def next(self) -> Message:
        """The next message; raises `Vanished`."""
        message = await (self._receive() if self._coming is None else self._coming)
        self._coming = None
        if message["type"].endswith(".disconnect"):
            raise Vanished
        return message

    async def answer(self, future: Future[Result]) -> Result:
        """The future's result, or its error; when the client leaves first, the future is cancelled.

        Raises:
            Vanished: the client has left.
        """
        loop = asyncio.get_running_loop()
        settled: asyncio.Future[None] = loop.create_future()

        def tell(_: object) -> None:
            if not settled.done():
                settled.set_result(None)

        def wake(_: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has been closed
                loop.call_soon_threadsafe(tell, None)

        future.add_done_callback(wake)
        # A task that listens costs more than a quick answer does, so it begins when the answer is none.
        later = loop.call_later(_QUICK_S, lambda: self._listen().add_done_callback(tell))
        try:
            await settled
            if not future.done():
                message = await self._listen()
                if message["type"].endswith(".disconnect"):
                    raise Vanished
                await asyncio.wrap_future(future)  # a message that came early waits for `next`
        except (Vanished, asyncio.CancelledError):
            future.cancel()
            raise
        finally:
            later.cancel()
        return future.result()

    def close(self) -> None:
        """Stop reading ahead."""
        if self._coming is not None:
            self._coming.cancel()

    def _listen(self) -> asyncio.Future[Message]:
        if self._coming is None:
            self._coming = asyncio.ensure_future(self._receive())
        return self._coming
