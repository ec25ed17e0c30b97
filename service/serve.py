"""`tinyvla serve`: settings to a running server, and a graceful end on SIGINT or SIGTERM."""

from __future__ import annotations

import logging
import queue
import signal
from collections.abc import Callable
from types import FrameType

from policy.errors import TinyVLAError, UsageError
from policy.predictor import Predictor
from service.auth import curl_line, is_loopback, make_token
from service.running import RunningServer
from service.settings import ServeSettings, read_settings

log = logging.getLogger(__name__)


def main(argv: list[str]) -> int:
    """Serve until a signal comes; 0 after a graceful end.

    Raises:
        UsageError: a flag, port or bundle that will not do.
        TinyVLAError: a bundle that fails its hashes or its golden pair.
    """
    settings = read_settings(argv)
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    for chatty in ("uvicorn.error", "PIL"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLogger().level))
    token, token_made = settings.token, False
    if token is None and not is_loopback(settings.host):
        token, token_made = make_token(), True

    # A SimpleQueue, because a signal may interrupt whoever holds an Event's lock.
    news: queue.SimpleQueue[str] = queue.SimpleQueue()

    def on_signal(number: int, frame: FrameType | None) -> None:
        news.put("stop")
        signal.signal(number, signal.SIG_DFL)  # a second one ends the process at once

    server = RunningServer(
        predictor_maker(settings),
        host=settings.host,
        port=settings.port,
        zmq_port=settings.zmq_port,
        token=token,
        max_batch=settings.max_batch,
        queue_size=settings.queue_size,
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    server.start()
    try:
        server.ready.add_done_callback(lambda _: news.put("loaded"))
        if news.get() == "loaded":
            _announce(server, token, token_made)
            news.get()
        log.info("stopping: queued work finishes, new work is refused")
    finally:
        server.stop()
    return 0


def predictor_maker(settings: ServeSettings) -> Callable[[], Predictor]:
    """How the engine's thread loads what the settings ask for."""
    if settings.null:
        from policy.null import NullPolicy

        return lambda: NullPolicy(run_ms=settings.null_run_ms)

    def load() -> Predictor:
        from policy.bundle import load_bundle

        return load_bundle(
            settings.bundle[0], runtime=settings.runtime, device=settings.device, threads=settings.threads
        )

    return load


def _announce(server: RunningServer, token: str | None, token_made: bool) -> None:
    try:
        policy = server.ready.result()
    except (UsageError, TinyVLAError):
        raise
    except Exception as error:
        log.debug("loading failed", exc_info=error)
        raise UsageError(
            f"the policy cannot be loaded: {error!s:.300} (--log-level debug tells more)"
        ) from error
    log.info(
        "ready: %s runtime=%s device=%s at %s and %s",
        policy.label,
        policy.runtime,
        policy.device,
        server.http_url,
        server.zmq_url,
    )
    if token_made:
        print(f"No --token was given for a public address, so this one was made: {token}", flush=True)
        print(curl_line(server.http_url, token, policy), flush=True)
