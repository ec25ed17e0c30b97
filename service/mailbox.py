"""Hands results from any thread to one that sleeps in a ZeroMQ poll."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

import zmq

Item = TypeVar("Item")


class Mailbox(Generic[Item]):
    """`put` from any thread, `take` on the polling one."""

    def __init__(self, context: zmq.Context) -> None:
        address = f"inproc://mailbox-{id(self)}"
        self.socket: zmq.Socket = context.socket(zmq.PULL)
        self.socket.bind(address)
        self._bell: zmq.Socket = context.socket(zmq.PUSH)
        self._bell.connect(address)
        self._lock = threading.Lock()  # sockets may change threads, but only with a barrier between
        self._items: list[Item] = []
        self._closed = False

    def put(self, item: Item) -> None:
        """Leave an item; what comes after `close` is dropped."""
        with self._lock:
            if self._closed:
                return
            self._items.append(item)
            if len(self._items) == 1:  # one ring is enough until the box is emptied
                self._bell.send(b"")

    def take(self) -> list[Item]:
        """Everything that was left, in order."""
        with self._lock:
            items, self._items = self._items, []
            if items:
                self.socket.recv()  # the one ring
            return items

    def close(self) -> None:
        """Close both sockets; on the polling thread."""
        with self._lock:
            self._closed = True
            self._bell.close(linger=0)
            self.socket.close(linger=0)
