"""A ZeroMQ ROUTER on a thread of its own, whose poll loop no message can end; what is said is up to a `Talk`."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

import zmq

from policy.errors import TinyVLAError
from service.access_log import answered
from service.curve import CurveServer
from service.engine import as_refusal
from service.mailbox import Mailbox
from service.metrics import Metrics
from service.request_id import Mark, current, resume
from service.wire.arrays import Buffer

log = logging.getLogger(__name__)

_READABLE = int(zmq.POLLIN)
_BURST = 64  # messages read before results are looked at again
_WAITING = (
    32  # messages of one client that ZeroMQ may hold for us; each may have `max_bytes`, so memory is at stake
)

Frames = list[Buffer]


@dataclass(frozen=True)
class Pending:
    """An answer that the engine still works on."""

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


@dataclass(frozen=True)
class _Outcome:
    """The engine is done with a message."""

    envelope: list[bytes]
    pending: Pending
    mark: Mark | None


@dataclass(frozen=True)
class _Stop:
    """Leave when nothing is in flight any more, or at this time of the monotonic clock."""

    at: float


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
        self._socket: zmq.Socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.MAXMSGSIZE, max_bytes)
        self._socket.setsockopt(zmq.RCVHWM, _WAITING)
        self._socket.setsockopt(zmq.IPV6, address.startswith("tcp://["))
        if curve is not None:
            curve.lock(self._socket)
        try:
            self._socket.bind(address)
        except zmq.ZMQError:
            self._destroy()
            raise
        self.url: str = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self._mailbox: Mailbox[_Outcome | _Stop] = Mailbox(self._context)
        self._in_flight = 0
        self._thread = threading.Thread(target=self._main, name=f"{talk.door}-door", daemon=True)

    def start(self) -> None:
        """Serve."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Answer what is in flight, within `timeout` seconds, and close."""
        self._mailbox.put(_Stop(time.monotonic() + timeout))
        self._thread.join()

    def unbind(self) -> None:
        """Let go of the address of a router that will not be started."""
        self._mailbox.close()
        self._socket.close(linger=0)
        self._destroy()

    def _main(self) -> None:
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._mailbox.socket, zmq.POLLIN)
        stop_at: float | None = None
        while stop_at is None or (self._in_flight and time.monotonic() < stop_at):
            wait_ms = None if stop_at is None else max(0, round((stop_at - time.monotonic()) * 1e3))
            ready = dict(poller.poll(wait_ms))
            if self._mailbox.socket in ready:
                for item in self._mailbox.take():
                    if isinstance(item, _Stop):
                        stop_at = item.at
                    else:
                        self._in_flight -= 1
                        self._answer(item)
            if self._socket in ready:
                self._read_burst()
        self._mailbox.close()
        self._socket.close(linger=1000)  # ms for the last replies to leave
        self._destroy()

    def _destroy(self) -> None:
        if self._guard is not None:
            self._guard.stop()
        self._context.destroy(linger=1000)

    def _read_burst(self) -> None:
        for _ in range(_BURST):
            if not int(self._socket.get(zmq.EVENTS)) & _READABLE:
                return
            parts = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
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
                self._await(_Outcome(envelope, heard, current()))
            else:
                self._send(envelope, heard)

    def _await(self, outcome: _Outcome) -> None:
        self._in_flight += 1
        outcome.pending.future.add_done_callback(lambda _: self._mailbox.put(outcome))

    def _answer(self, outcome: _Outcome) -> None:
        resume(outcome.mark)
        try:
            frames = outcome.pending.encode(outcome.pending.future.result())
        except Exception as error:
            refusal = as_refusal(error)
            self._send(outcome.envelope, outcome.pending.refuse(refusal), refusal)
            return
        self._send(outcome.envelope, frames)

    def _send(self, envelope: list[bytes], frames: Frames, refusal: TinyVLAError | None = None) -> None:
        try:
            self._socket.send_multipart([*envelope, *frames], zmq.NOBLOCK)
        except zmq.ZMQError as error:
            log.debug("a reply found nobody to take it: %s", error)
        answered(self._metrics, self._talk.door, "ok" if refusal is None else refusal.code, refusal)
