"""Binding addresses early and saying in one line why one cannot be bound."""

from __future__ import annotations

import errno
import os
import socket

from policy.errors import UsageError


def bind_http(host: str, port: int) -> socket.socket:
    """A listening TCP socket; port 0 takes a free one.

    Connections made before anyone accepts wait in its backlog, so clients may start at once.

    Raises:
        UsageError: the address cannot be bound, and why.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (socket.gaierror, UnicodeError) as error:
        raise UsageError(f"--host {host}: no such address ({error}); 127.0.0.1 is the default") from None
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(512)
    except OSError as error:
        listener.close()
        raise UsageError(cannot_bind("--port", host, port, error.errno)) from None
    return listener


def cannot_bind(flag: str, host: str, port: int, number: int | None) -> str:
    """One line on why `host:port` cannot be bound and what to do."""
    if number == errno.EADDRINUSE:
        return f"{flag} {port}: another program listens on {host}:{port}; stop it or choose another port"
    reason = os.strerror(number) if number is not None and number < 1000 else "the address is not usable"
    return f"{flag} {port}: cannot listen on {host}:{port}: {reason}"


def bracketed(host: str) -> str:
    """The host as it stands in a URL."""
    return f"[{host}]" if ":" in host else host


def reachable(host: str) -> str:
    """A host that a client on this machine can name: a wildcard address is none."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
