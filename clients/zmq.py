"""A policy behind ZeroMQ: a DEALER socket, arrays sent from where they lie; blocking (`ZmqClient`) or async."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from typing import TypeVar

import zmq
import zmq.asyncio

from clients.client_calls import AsyncCalls, BlockingCalls
from clients.client_options import ClientOptions
from clients.zmq_calls import Question, ZmqLanguage, accepted, read_answer
from service.wire import zmq_frames

Socket = TypeVar("Socket", bound=zmq.Socket)

_LOOK_UP_MS = 50  # how often a call that waits looks whether its server is still there


class ZmqClient(BlockingCalls):
    """See `clients.client.PolicyClient`.

    Args:
        url: such as ``tcp://127.0.0.1:5570``.
        token: the server's bearer token.
        options: see `ClientOptions`.

    Raises:
        ConnectionError: the address is none.
        UsageError: a key file of the options is none.
    """

    def __init__(self, url: str, token: str | None = None, options: ClientOptions | None = None) -> None:
        options = options or ClientOptions()
        super().__init__(url, ZmqLanguage(url, token, options), options)
        self._context = zmq.Context()
        self._socket = _connected(self._context, url, options)
        self._monitor = self._socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self._socket.setsockopt(zmq.RCVTIMEO, _LOOK_UP_MS)

    def close(self) -> None:
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
        self._socket.close(linger=0)
        self._context.term()

    def _exchange(self, question: Question, left_s: float) -> zmq_frames.Answer:
        call_id, message = question
        deadline = time.monotonic() + left_s
        # What broke before this call is no concern of it.
        while int(self._monitor.get(zmq.EVENTS)) & zmq.POLLIN:
            self._monitor.recv_multipart()
        # Asked also because it makes ZeroMQ notice a connection that just broke, which sending does not always.
        room = int(self._socket.get(zmq.EVENTS)) & zmq.POLLOUT
        if not room and not self._socket.poll(_milliseconds(deadline), zmq.POLLOUT):
            raise _late(self.url, self._options)
        try:
            self._socket.send_multipart(message, zmq.NOBLOCK, copy=False)
        except zmq.Again:  # it broke since there was room
            raise _broken(self.url) from None
        while (frames := self._receive(deadline)) is not None:
            answer = read_answer([frame.buffer for frame in frames], self.url)
            # Without an id the server could not read the message; with another one that call is over.
            if answer.id in (call_id, None):
                return accepted(answer)
        raise _late(self.url, self._options)

    def _receive(self, deadline: float) -> list[zmq.Frame] | None:
        """A message; None when none came in time. Raises `ConnectionError` when the connection broke.

        It sleeps in the socket and looks up now and then: polling two sockets takes as long as reading one.
        """
        while (left_ms := _milliseconds(deadline)) > 0:
            if left_ms >= _LOOK_UP_MS or self._socket.poll(left_ms):
                with contextlib.suppress(zmq.Again):
                    return self._socket.recv_multipart(copy=False)
            if int(self._monitor.get(zmq.EVENTS)) & zmq.POLLIN:
                self._monitor.recv_multipart()
                raise _broken(self.url)
        return None


class AsyncZmqClient(AsyncCalls):
    """See `clients.client.AsyncPolicyClient`; calls may overlap, and replies are told apart by their ids.

    Arguments are those of `ZmqClient`.
    """

    def __init__(self, url: str, token: str | None = None, options: ClientOptions | None = None) -> None:
        options = options or ClientOptions()
        super().__init__(url, ZmqLanguage(url, token, options), options)
        self._context = zmq.asyncio.Context()
        self._socket = _connected(self._context, url, options)
        self._monitor = self._socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self._waiting: dict[int, asyncio.Future[zmq_frames.Answer]] = {}  # by call id, oldest first
        self._readers: list[asyncio.Task[None]] = []
        self._closed = False

    async def close(self) -> None:
        self._closed = True
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)
        self._fail(_closed(self.url))
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
        self._socket.close(linger=0)
        self._context.term()

    async def _exchange(self, question: Question, left_s: float) -> zmq_frames.Answer:
        if self._closed:
            raise _closed(self.url)
        if not self._readers:  # here and not when made: only now is there surely an event loop
            self._readers = [asyncio.create_task(body) for body in (self._read_answers(), self._watch())]
        call_id, message = question
        answered: asyncio.Future[zmq_frames.Answer] = asyncio.get_running_loop().create_future()
        self._waiting[call_id] = answered
        try:
            async with asyncio.timeout(left_s):
                await self._socket.send_multipart(message, copy=False)
                return accepted(await answered)
        except TimeoutError:
            raise _late(self.url, self._options) from None
        except asyncio.CancelledError:
            # The socket does this to a message that found no connection until it was closed.
            if self._closed:
                raise _closed(self.url) from None
            raise
        finally:
            self._waiting.pop(call_id, None)

    async def _read_answers(self) -> None:
        while True:
            frames = await self._socket.recv_multipart(copy=False)
            try:
                answer = read_answer([frame.buffer for frame in frames], self.url)
            except ConnectionError as error:
                self._fail(error)
                continue
            # Without an id the server could not read a message, and does not say which.
            call_id = answer.id if answer.id is not None else next(iter(self._waiting), None)
            waiting = self._waiting.get(call_id) if call_id is not None else None
            if waiting is not None and not waiting.done():
                waiting.set_result(answer)

    async def _watch(self) -> None:
        while True:
            await self._monitor.recv_multipart()
            self._fail(_broken(self.url))

    def _fail(self, error: ConnectionError) -> None:
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(error)


def _connected(context: zmq.Context[Socket], url: str, options: ClientOptions) -> Socket:
    """A DEALER that connects, and connects again, by itself; it ends the context where the address is none."""
    socket = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.IPV6, "[" in url)
    # Without a connection nothing is queued: an old observation must not reach a server that comes back later.
    socket.setsockopt(zmq.IMMEDIATE, 1)
    socket.setsockopt(zmq.RECONNECT_IVL, 50)  # ms; doubled at every attempt, up to the next line's
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, 500)
    # Keeping an array alive until it is sent takes a thread of its own, and longer than copying a small one.
    socket.copy_threshold = 2**20  # bytes
    try:
        _lock(socket, options)
        socket.connect(url)
    except BaseException as error:
        socket.close()
        context.term()
        if isinstance(error, zmq.ZMQError):
            raise ConnectionError(f"{url} is no address to connect to: {error}") from None
        raise
    return socket


def _lock(socket: zmq.Socket, options: ClientOptions) -> None:
    """CURVE, where the server's key is given; raises `UsageError` for a file that is no key."""
    if options.server_key is None:
        return
    from service.wire.curve_keys import fresh_keys, read_keys, read_public_key

    keys = fresh_keys() if options.client_key is None else read_keys(options.client_key)
    socket.curve_serverkey = read_public_key(options.server_key)
    socket.curve_publickey, socket.curve_secretkey = keys.public, keys.secret


def _broken(url: str) -> ConnectionError:
    return ConnectionError(f"{url} closed the connection")


def _closed(url: str) -> ConnectionError:
    return ConnectionError(f"the client of {url} was closed")


def _late(url: str, options: ClientOptions) -> ConnectionError:
    return ConnectionError(f"{url} did not answer within {options.timeout_s:g} s")


def _milliseconds(until: float) -> int:
    return max(0, math.ceil((until - time.monotonic()) * 1e3))
