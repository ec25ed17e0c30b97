"""From a body to a queued request: decoding happens on a few threads of its own, never on an event loop."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor

from policy.errors import TinyVLAError
from service.engine import Engine, refuse
from service.request_id import current, resume
from service.wire.messages import ActReply, ActRequest


class Intake:
    """All doors hand their requests in here. `client` is who sent one, as far as the door can tell.

    Args:
        engine: gets what was decoded.
        threads: that decode; Pillow releases the interpreter's lock, so two keep two cores busy.
        capacity: bodies that may wait for decoding; more are answered `overloaded`, so memory is bounded.
    """

    def __init__(self, engine: Engine, *, threads: int = 2, capacity: int = 64) -> None:
        self.engine = engine
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._room = FairRoom(capacity)
        self._closed = False

    def accept(
        self, decode: Callable[[], ActRequest], arrived: float, *, client: Hashable = None
    ) -> Future[ActReply]:
        """Decode on the pool and queue; never raises and never blocks. Cancelling the future costs no run."""
        future: Future[ActReply] = Future()
        mark = current()
        try:
            self._room.enter(client)
        except TinyVLAError as error:
            refuse(future, error)
            return future

        def work() -> None:
            resume(mark)
            try:
                if not future.cancelled():
                    self._submit(decode, arrived, future, client)
            finally:
                self._room.leave(client)

        try:
            self._pool.submit(work)
        except RuntimeError:  # the pool has been shut down
            self._room.leave(client)
            refuse(future, _stopping())
        return future

    def accept_here(
        self, decode: Callable[[], ActRequest], arrived: float, *, client: Hashable = None
    ) -> Future[ActReply]:
        """Decode on the calling thread and queue: for requests that hold nothing slow to decode."""
        future: Future[ActReply] = Future()
        if self._closed:
            refuse(future, _stopping())
        else:
            self._submit(decode, arrived, future, client)
        return future

    def close(self) -> None:
        """Finish what is being decoded and take nothing more."""
        self._closed = True
        self._pool.shutdown(wait=True)

    def _submit(
        self, decode: Callable[[], ActRequest], arrived: float, future: Future[ActReply], client: Hashable
    ) -> None:
        started = time.monotonic()
        try:
            request = decode()
        except Exception as error:
            refuse(future, error)
            return
        decode_ms = (time.monotonic() - started) * 1e3
        self.engine.submit(request, arrived=arrived, decode_ms=decode_ms, future=future, client=client)


class FairRoom:
    """Bounded room that no client can fill alone: one may hold at most as much as is free.

    Dynamic thresholds, as in the buffers of switches (Choudhury & Hahne, 1998).
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._lock = threading.Lock()
        self._held: Counter[Hashable] = Counter()

    def enter(self, client: Hashable) -> None:
        """Raises `overloaded` when the room, or this client's share of it, is full."""
        with self._lock:
            all_held, mine = self._held.total(), self._held[client]
            if all_held >= self._capacity or 0 < self._capacity - all_held <= mine:
                whose = f"{mine} of them from this client" if mine else "from others"
                raise TinyVLAError(
                    "overloaded",
                    f"{all_held} requests wait for decoding already, {whose}; try again in a moment",
                )
            self._held[client] += 1

    def leave(self, client: Hashable) -> None:
        """One of the client's is done."""
        with self._lock:
            self._held[client] -= 1
            if not self._held[client]:
                del self._held[client]


def _stopping() -> TinyVLAError:
    return TinyVLAError("not_ready", "the server is shutting down")
