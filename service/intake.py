"""From a body to a queued request: decoding happens on a few threads of its own, never on an event loop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from policy.errors import TinyVLAError
from service.engine import Engine, refuse
from service.wire.messages import ActReply, ActRequest


class Intake:
    """Both doors hand their requests in here.

    Args:
        engine: gets what was decoded.
        threads: that decode; Pillow releases the interpreter's lock, so two keep two cores busy.
        capacity: bodies that may wait for decoding; more are answered `overloaded`, so memory is bounded.
    """

    def __init__(self, engine: Engine, *, threads: int = 2, capacity: int = 64) -> None:
        self.engine = engine
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._room = threading.BoundedSemaphore(capacity)
        self._capacity = capacity

    def accept(self, decode: Callable[[], ActRequest], arrived: float) -> Future[ActReply]:
        """Decode on the pool and queue; never raises and never blocks."""
        future: Future[ActReply] = Future()
        if not self._room.acquire(blocking=False):
            refuse(
                future,
                TinyVLAError(
                    "overloaded",
                    f"{self._capacity} requests wait for decoding already; try again in a moment",
                ),
            )
            return future

        def work() -> None:
            try:
                self.accept_here(decode, arrived, future)
            finally:
                self._room.release()

        try:
            self._pool.submit(work)
        except RuntimeError:  # the pool has been shut down
            self._room.release()
            refuse(future, TinyVLAError("not_ready", "the server is shutting down"))
        return future

    def accept_here(
        self, decode: Callable[[], ActRequest], arrived: float, future: Future[ActReply] | None = None
    ) -> Future[ActReply]:
        """Decode on the calling thread and queue: for requests that hold nothing slow to decode."""
        future = Future() if future is None else future
        started = time.monotonic()
        try:
            request = decode()
        except Exception as error:
            refuse(future, error)
            return future
        decode_ms = (time.monotonic() - started) * 1e3
        return self.engine.submit(request, arrived=arrived, decode_ms=decode_ms, future=future)

    def close(self) -> None:
        """Finish what is being decoded and take nothing more."""
        self._pool.shutdown(wait=True)
