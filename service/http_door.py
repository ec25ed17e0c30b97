"""The HTTP door: uvicorn on a thread of its own, over a port that is bound before anything is loaded."""

from __future__ import annotations

import ssl
import threading

import uvicorn

from service.http_request_id import App
from service.listen import bind_http, bracketed, reachable


class HttpDoor:
    """HTTP and WebSockets, plain or over TLS.

    Args:
        host: the address.
        port: 0 takes a free one, see `url`.
        tls: makes it HTTPS.
        max_body: bytes of a WebSocket message; HTTP bodies are the application's matter.

    Raises:
        UsageError: the port is in use, or the host is no address.
    """

    def __init__(self, host: str, port: int, *, tls: ssl.SSLContext | None, max_body: int) -> None:
        self._tls, self._max_body = tls, max_body
        self._listener = bind_http(host, port)
        self.address, bound_port = self._listener.getsockname()[:2]
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://{bracketed(reachable(self.address))}:{bound_port}"
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    def start(self, app: App) -> None:
        """Serve the application."""
        tls = self._tls
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="websockets-sansio",
            ws_max_size=self._max_body,
            ws_per_message_deflate=False,  # camera images do not shrink, and what does may be a bomb
            ssl_context_factory=None if tls is None else lambda config, default: tls,
            timeout_keep_alive=75,  # seconds; a robot that pauses should not pay for a new connection
            timeout_graceful_shutdown=5,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._listener]}, name="http-door", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Answer what is in flight and close; also when it was never started."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join()
        self._listener.close()
