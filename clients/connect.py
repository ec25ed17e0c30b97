"""From a server's address to its client."""

from __future__ import annotations

from clients.client import PolicyClient
from policy.errors import UsageError
from service.wire.images import ImageFormat


def connect(
    url: str,
    token: str | None = None,
    *,
    image_format: ImageFormat = "raw",
    quality: int = 90,
    timeout_s: float = 5.0,
) -> PolicyClient:
    """`http://` and `https://` get the HTTP client, `tcp://` the ZeroMQ one.

    Raises:
        UsageError: the address is neither.
    """
    scheme, separator, host = url.partition("://")
    if separator and host and scheme in ("http", "https"):
        from clients.http import HttpClient

        return HttpClient(url, token, image_format=image_format, quality=quality, timeout_s=timeout_s)
    if separator and host and scheme == "tcp":
        from clients.zmq import ZmqClient

        return ZmqClient(url, token, image_format=image_format, quality=quality, timeout_s=timeout_s)
    raise UsageError(
        f"--server {url!r}: expected http://HOST:PORT or tcp://HOST:PORT, such as http://127.0.0.1:8000"
    )
