"""The server's side of ZeroMQ CURVE: everything encrypted, and only known robots where a list of them is given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import zmq
from zmq.auth.thread import ThreadAuthenticator

from policy.errors import UsageError
from service.wire.curve_keys import CurveKeys, read_keys, read_public_key


@dataclass(frozen=True)
class CurveServer:
    """Keys of the ZeroMQ door."""

    keys: CurveKeys
    clients: (
        Path | None
    )  # directory with a .key file per robot that may connect; None lets in who has our public key

    def lock(self, socket: zmq.Socket) -> None:
        """Make a socket, not bound yet, speak CURVE only."""
        socket.curve_server = True
        socket.curve_publickey, socket.curve_secretkey = self.keys.public, self.keys.secret

    def guard(self, context: zmq.Context) -> ThreadAuthenticator | None:
        """What turns unknown clients away, running; `stop` it before the context ends."""
        if self.clients is None:
            return None
        guard = ThreadAuthenticator(context)
        guard.start()
        guard.configure_curve(domain="*", location=str(self.clients))
        return guard


def read_curve_server(key_file: Path | None, clients: Path | None) -> CurveServer | None:
    """The settings' files, read and checked.

    Raises:
        UsageError: a file or directory that will not do.
    """
    if key_file is None:
        if clients is not None:
            raise UsageError("--curve-clients needs --curve-key, the server's own secret key")
        return None
    if clients is not None:
        files = sorted(clients.glob("*.key"))
        if not files:
            raise UsageError(f"--curve-clients {clients}: a directory with a .key file per robot is expected")
        for file in files:
            read_public_key(file)
    return CurveServer(read_keys(key_file), clients)
