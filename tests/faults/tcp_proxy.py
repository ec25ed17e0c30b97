"""A TCP proxy whose network can be cut, stalled or damaged while connections run through it."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Literal

Mode = Literal["pass", "stall", "cut", "damage"]
CHUNK = 65536


class TcpProxy:
    """`with TcpProxy(port) as proxy:` forwards `proxy.port` to `port` of this machine.

    Modes: `pass`; `stall`, nothing gets through and connections stay; `cut`, connections break and none is made;
    `damage`, a bit of whatever the server sends is flipped, here and there.

    Args:
        target: port that is forwarded to.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._mode: Mode = "pass"
        self._changed = threading.Condition()
        self._open: set[socket.socket] = set()
        self._damaged = 0

    def set_mode(self, mode: Mode) -> None:
        """From now on."""
        with self._changed:
            self._mode = mode
            if mode == "cut":
                self._close_all()
            self._changed.notify_all()

    def __enter__(self) -> TcpProxy:
        threading.Thread(target=self._accept, daemon=True, name="proxy").start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._mode = "cut"
            self._close_all()
            self._changed.notify_all()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self._changed:
                if self._mode == "cut":
                    client.close()
                    continue
            try:
                server = socket.create_connection(("127.0.0.1", self._target), timeout=5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            with self._changed:
                self._open |= {client, server}
            for source, sink, from_server in ((client, server, False), (server, client, True)):
                threading.Thread(
                    target=self._pump, args=(source, sink, from_server), daemon=True, name="proxy"
                ).start()

    def _pump(self, source: socket.socket, sink: socket.socket, from_server: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK):
                with self._changed:
                    self._changed.wait_for(lambda: self._mode != "stall")
                    damage = self._mode == "damage" and from_server
                sink.sendall(self._flip(data) if damage else data)
        with self._changed:
            for end in (source, sink):
                self._open.discard(end)
                _close(end)

    def _flip(self, data: bytes) -> bytes:
        damaged = bytearray(data)
        self._damaged += 1
        # Another place every time: headers, map keys and action values are all hit sooner or later.
        damaged[(self._damaged * 7919) % len(damaged)] ^= 0x10
        return bytes(damaged)

    def _close_all(self) -> None:
        for end in self._open:
            _close(end)
        self._open.clear()


def _close(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
