"""A ZeroMQ socket that one thread reads and any thread answers on, so that no answer waits for the reader."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Sequence

import zmq

from service.wire.arrays import Buffer

_READABLE = int(zmq.POLLIN)


class SharedSocket:
    """`wait`, `receive` and `close` on one thread; `send` and `wake` on any.

    Several threads may use a ZeroMQ socket as long as they do it one at a time, with a lock. The reader cannot hold it
    while it sleeps, and so sleeps on the socket's file descriptor, which tells of changes only. A thread that sends may
    take notice of a message that came meanwhile, and the descriptor will not tell of it again: the reader is woken.

    Args:
        bare: what nobody else uses from now on.
    """

    def __init__(self, bare: zmq.Socket) -> None:
        self._bare = bare
        self._lock = threading.Lock()  # guards `_bare` and `_closed`
        self._closed = False
        self._bell, self._rope = socket.socketpair()
        self._bell.setblocking(False)
        self._rope.setblocking(False)
        self._sleep = select.poll()
        self._sleep.register(int(bare.get(zmq.FD)), select.POLLIN)
        self._sleep.register(self._bell, select.POLLIN)

    def wait(self, timeout_s: float | None) -> None:
        """After `receive` gave None: until it may give more, `wake` is called or the time is over (None: never)."""
        for descriptor, _ in self._sleep.poll(None if timeout_s is None else timeout_s * 1e3):
            if descriptor == self._bell.fileno():
                self._bell.recv(4096)

    def receive(self) -> list[zmq.Frame] | None:
        """A message's frames; None when none is there."""
        with self._lock:
            if not self._is_readable():
                return None
            frames = [self._bare.recv(zmq.NOBLOCK, copy=False)]
            while frames[-1].more:
                frames.append(self._bare.recv(zmq.NOBLOCK, copy=False))
            return frames

    def send(self, frames: Sequence[Buffer]) -> None:
        """Never blocks; what comes after `close` is dropped. Raises `zmq.ZMQError` when nobody takes it."""
        with self._lock:
            if self._closed:
                return
            self._bare.send_multipart(frames, zmq.NOBLOCK)
            overlooked = self._is_readable()
        if overlooked:
            self.wake()

    def wake(self) -> None:
        """Let `wait` return."""
        with contextlib.suppress(OSError):  # as full as can be, or closed
            self._rope.send(b"!")

    def close(self, linger_ms: int) -> None:
        """Give the last messages so long to leave."""
        with self._lock:
            self._closed = True
            self._bare.close(linger_ms)
        self._bell.close()
        self._rope.close()

    def _is_readable(self) -> bool:
        return bool(int(self._bare.get(zmq.EVENTS)) & _READABLE)
