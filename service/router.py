"""A ZeroMQ ROUTER on a thread of its own, whose poll loop no message can end; what is said is up to a `Talk`."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple, Protocol

import zmq

from policy.errors import TinyVLAError
from service.access_log import answered
from service.curve import CurveServer
from service.engine import as_refusal
from service.metrics import Metrics
from service.request_id import Mark, current, handling, resume
from service.shared_socket import SharedSocket
from service.wire.arrays import Buffer

log = logging.getLogger(__name__)

_BURST = 64  # messages read before it is asked whether to stop
_LINGER_MS = 1000  # for the last replies to leave
_WAITING = (
    32  # messages of one client that ZeroMQ may hold for us; each may have `max_bytes`, so memory is at stake
)

Frames = list[Buffer]


class Pending(NamedTuple):
    """An answer that the engine still works on; put into words on the thread that resolves the future."""

    future: Future[Any]
    encode: Callable[[Any], Frames]  # the future's result as a message
    refuse: Callable[[TinyVLAError], Frames]  # its error as a message


class Talk(Protocol):
    """A protocol spoken over the router. Its methods are called on the router's thread, so they must be quick."""

    door: str  # the door's name in the metrics

    def hear(self, message: Sequence[memoryview], sender: bytes) -> Frames | Pending:
        """Answer a message, or say who will; whatever it raises is answered with `refuse`."""
        ...

    def refuse(self, message: Sequence[memoryview], error: TinyVLAError) -> Frames:
        """The answer to a message that `hear` raised on; never raises."""
        ...


class _Unanswered(NamedTuple):
    """A message that the engine works on."""

    envelope: list[bytes]
    pending: Pending
    mark: Mark | None


class Router:
    """Bound when made, so that a port in use is known at once; serves between `start` and `stop`.

    Args:
        talk: what is spoken.
        metrics: told of every answer.
        address: such as ``tcp://127.0.0.1:5570``; port ``*`` takes a free one, see `url`.
        max_bytes: of one frame; ZeroMQ itself drops the connection of who sends more.
        curve: keys that encrypt everything; None leaves the socket plain.

    Raises:
        zmq.ZMQError: the address cannot be bound.
    """

    def __init__(
        self, talk: Talk, metrics: Metrics, address: str, *, max_bytes: int, curve: CurveServer | None = None
    ) -> None:
        self._talk, self._metrics = talk, metrics
        self._context = zmq.Context()
        self._guard = curve.guard(self._context) if curve is not None else None
        bare = self._context.socket(zmq.ROUTER)
        bare.setsockopt(zmq.MAXMSGSIZE, max_bytes)
        bare.setsockopt(zmq.RCVHWM, _WAITING)
        bare.setsockopt(zmq.IPV6, address.startswith("tcp://["))
        if curve is not None:
            curve.lock(bare)
        try:
            bare.bind(address)
        except zmq.ZMQError:
            self._destroy()
            raise
        self.url: str = bare.getsockopt_string(zmq.LAST_ENDPOINT)
        self._socket = SharedSocket(bare)
        self._lock = threading.Lock()  # guards `_in_flight`
        self._in_flight = 0  # messages that the engine works on
        self._stop_at: float | None = None  # seconds of the monotonic clock; sooner when nothing is in flight
        self._thread = threading.Thread(target=self._main, name=f"{talk.door}-door", daemon=True)

    def start(self) -> None:
        """Serve."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Answer what is in flight, within `timeout` seconds, and close."""
        self._stop_at = time.monotonic() + timeout
        self._socket.wake()
        self._thread.join()

    def unbind(self) -> None:
        """Let go of the address of a router that will not be started."""
        self._socket.close(linger_ms=0)
        self._destroy()

    def _main(self) -> None:
        while (left_s := self._left_s()) is None or (self._in_flight and left_s > 0):
            if self._read_burst():
                self._socket.wait(left_s)
        self._socket.close(_LINGER_MS)
        self._destroy()

    def _left_s(self) -> float | None:
        """Seconds until the end, come what may; None before `stop`."""
        return None if self._stop_at is None else self._stop_at - time.monotonic()

    def _destroy(self) -> None:
        if self._guard is not None:
            self._guard.stop()
        self._context.destroy(linger=_LINGER_MS)

    def _read_burst(self) -> bool:
        """True when nothing is left to read."""
        for _ in range(_BURST):
            parts = self._socket.receive()
            if parts is None:
                return True
            # REQ puts an empty frame between address and message, DEALER does not have to.
            opening = 2 if len(parts) > 1 and not len(parts[1]) else 1
            envelope = [part.bytes for part in parts[:opening]]
            message = [part.buffer for part in parts[opening:]]
            resume(None)
            try:
                heard = self._talk.hear(message, envelope[0])
            except Exception as error:
                refusal = as_refusal(error)
                self._send(envelope, self._talk.refuse(message, refusal), refusal)
                continue
            if isinstance(heard, Pending):
                self._await(_Unanswered(envelope, heard, current()))
            else:
                self._send(envelope, heard)
        return False

    def _await(self, message: _Unanswered) -> None:
        with self._lock:
            self._in_flight += 1
        message.pending.future.add_done_callback(lambda _: self._answer(message))

    def _answer(self, message: _Unanswered) -> None:
        """On the thread that resolved the future: a way through the router's would cost the robot a tenth of a ms."""
        with handling(message.mark):
            try:
                frames, refusal = message.pending.encode(message.pending.future.result()), None
            except Exception as error:
                refusal = as_refusal(error)
                frames = message.pending.refuse(refusal)
            self._send(message.envelope, frames, refusal)
        with self._lock:
            self._in_flight -= 1
        if self._stop_at is not None:
            self._socket.wake()

    def _send(self, envelope: list[bytes], frames: Frames, refusal: TinyVLAError | None = None) -> None:
        try:
            self._socket.send([*envelope, *frames])
        except zmq.ZMQError as error:
            log.debug("a reply found nobody to take it: %s", error)
        answered(self._metrics, self._talk.door, "ok" if refusal is None else refusal.code, refusal)
