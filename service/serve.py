"""`tinyvla serve`: settings to a running server, and a graceful end on SIGINT or SIGTERM."""

from __future__ import annotations

import gc
import logging
import os
import queue
import signal
from functools import partial
from pathlib import Path
from types import FrameType

from policy.errors import TinyVLAError, UsageError
from policy.predictor import Predictor
from service.auth import is_loopback, make_token
from service.bundle_shelf import BundleSource
from service.curve import read_curve_server
from service.dropin.aliases import read_aliases
from service.freed_memory import keep_large_apart
from service.logs import configure_logs
from service.paste import curl_line
from service.policy_loader import Load
from service.running import RunningServer
from service.settings import ServeSettings, read_settings
from service.tls import read_tls

log = logging.getLogger(__name__)

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def main(argv: list[str]) -> int:
    """Serve until a signal comes; 0 after a graceful end.

    Raises:
        UsageError: a flag, port or bundle that will not do.
        TinyVLAError: a bundle that fails its hashes or its golden pair.
    """
    settings = read_settings(argv)
    keep_large_apart()
    flush_logs = configure_logs(settings.log_format, settings.log_level)
    if settings.backbone_dir is not None:
        os.environ["TINYVLA_BACKBONE_DIR"] = str(settings.backbone_dir)
    token, token_made = settings.token, False
    if token is None and not is_loopback(settings.host):
        token, token_made = make_token(), True

    # A SimpleQueue, because a signal may interrupt whoever holds an Event's lock.
    news: queue.SimpleQueue[str] = queue.SimpleQueue()

    def on_signal(number: int, frame: FrameType | None) -> None:
        news.put("stop")
        for one in _SIGNALS:
            signal.signal(one, _end_at_once)

    server = RunningServer(
        None,
        also=first_loads(settings),
        bundles=None if settings.null else bundle_source(settings),
        host=settings.host,
        port=settings.port,
        zmq_port=settings.zmq_port,
        groot_port=settings.groot_port,
        token=token,
        admin_token=settings.admin_token,
        aliases=read_aliases(settings.alias),
        max_body=settings.max_body_mb * 2**20,
        tls=read_tls(settings.tls_cert, settings.tls_key),
        curve=read_curve_server(settings.curve_key, settings.curve_clients),
        max_batch=settings.max_batch,
        max_wait_ms=settings.max_wait_ms,
        queue_size=settings.queue_size,
        grace_s=settings.grace_s,
    )
    for number in _SIGNALS:
        signal.signal(number, on_signal)
    server.start()
    log.debug("loading; the doors answer not_ready until the policy is warm")
    try:
        server.ready.add_done_callback(lambda _: news.put("loaded"))
        if news.get() == "loaded":
            _announce(server)
            # What is loaded now stays: looking through it for garbage again and again would be somebody's late reply.
            gc.collect()
            gc.freeze()
            if token_made:
                flush_logs()
                print(f"No --token was given for a public address, so this one was made: {token}", flush=True)
                print(
                    curl_line(server.http_url, token, server.ready.result().spec, settings.tls_cert),
                    flush=True,
                )
            news.get()
        log.info("stopping: queued work finishes, new work is refused")
    finally:
        server.stop()
    return 0


def _end_at_once(number: int, frame: FrameType | None) -> None:
    """The default action would do, but not for a container's first process, which the kernel spares it."""
    os._exit(128 + number)


def first_loads(settings: ServeSettings) -> list[Load]:
    """What the settings ask for, the one that is to be active first."""
    if settings.null:
        from policy.null import NullPolicy, read_contract

        spec = None if settings.null_contract is None else read_contract(settings.null_contract)
        return [Load(lambda: NullPolicy(spec, run_ms=settings.null_run_ms), activate=True)]
    source = bundle_source(settings)
    return [
        Load(partial(source.open, path), str(path), activate=number == 0)
        for number, path in enumerate(settings.bundle)
    ]


def bundle_source(settings: ServeSettings) -> BundleSource:
    """Where bundles come from later, and how all of them are loaded."""

    def open_bundle(path: Path) -> Predictor:
        from policy.bundle import load_bundle

        return load_bundle(path, settings.runtime, settings.device, settings.threads)

    return BundleSource(open_bundle, settings.bundle_root, settings.watch)


def _announce(server: RunningServer) -> None:
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
        "ready: %s runtime=%s device=%s at %s and %s%s",
        policy.label,
        policy.runtime,
        policy.device,
        server.http_url,
        server.zmq_url,
        f", GR00T at {server.groot_url}" if server.groot_url else "",
    )
