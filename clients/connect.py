"""From a server's address to its client."""

from __future__ import annotations

from typing import Literal

from clients.client import AsyncPolicyClient, PolicyClient
from clients.client_options import ClientOptions
from policy.errors import UsageError


def connect(url: str, token: str | None = None, options: ClientOptions | None = None) -> PolicyClient:
    """`http://` and `https://` get the HTTP client, `tcp://` the ZeroMQ one.

    Raises:
        UsageError: the address is neither.
    """
    if _transport(url) == "http":
        from clients.http import HttpClient

        return HttpClient(url, token, options)
    from clients.zmq import ZmqClient

    return ZmqClient(url, token, options)


def connect_async(
    url: str, token: str | None = None, options: ClientOptions | None = None
) -> AsyncPolicyClient:
    """`connect` for an event loop."""
    if _transport(url) == "http":
        from clients.http import AsyncHttpClient

        return AsyncHttpClient(url, token, options)
    from clients.zmq import AsyncZmqClient

    return AsyncZmqClient(url, token, options)


def _transport(url: str) -> Literal["http", "zmq"]:
    scheme, separator, host = url.partition("://")
    if separator and host and scheme in ("http", "https"):
        return "http"
    if separator and host and scheme == "tcp":
        return "zmq"
    raise UsageError(
        f"{url!r} is no server's address: expected http://HOST:PORT or tcp://HOST:PORT, such as http://127.0.0.1:8000"
    )
