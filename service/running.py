"""A whole server in this process: the engine and its doors, started and stopped together."""

from __future__ import annotations

import logging
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from types import TracebackType

import zmq

from policy.errors import UsageError
from policy.predictor import Predictor
from service.app import MAX_BODY, create_app
from service.bundle_shelf import BundleShelf, BundleSource
from service.curve import CurveServer
from service.dropin.aliases import Aliases, foreign
from service.dropin.groot_door import GrootTalk
from service.engine import Engine, ServedPolicy
from service.http_door import HttpDoor
from service.http_request_id import HttpRequestId
from service.intake import Intake
from service.listen import bracketed, cannot_bind, reachable
from service.policy_loader import Load, PolicyLoader
from service.policy_watch import PolicyWatch
from service.router import Router, Talk
from service.zmq_door import NativeTalk

log = logging.getLogger(__name__)


class RunningServer:
    """`with RunningServer(NullPolicy) as server:` serves on free loopback ports until the block ends.

    All ports are bound when it is made, before any policy is loaded. The doors answer from `start` on,
    `not_ready` until the policy is warm; entering the block waits for that.

    Args:
        make_predictor: loads the policy that is active at first; called on a thread of its own. None leaves that to
            `bundles`.
        also: other policies to load before the server is ready.
        bundles: where policies may come from later.
        host: address of all doors.
        port: of HTTP; 0 takes a free one.
        zmq_port: of ZeroMQ; 0 takes a free one.
        groot_port: of GR00T's protocol; 0 takes a free one, None leaves that door out.
        token: bearer token of all doors; None leaves them open.
        admin_token: bearer token of who may load, activate and unload policies; None lets nobody.
        aliases: what the names of other protocols mean to the policy.
        max_batch: requests that may share one run.
        queue_size: requests that may wait.
        max_wait_ms: how long a batch that is not full may wait for company.
        max_body: bytes of an HTTP body, a WebSocket message or a ZeroMQ frame.
        tls: makes the HTTP door HTTPS.
        curve: keys of the ZeroMQ door; None leaves it plain.
        grace_s: seconds that queued work may take after `stop`.

    Raises:
        UsageError: a port is in use, or the host is no address.
    """

    def __init__(
        self,
        make_predictor: Callable[[], Predictor] | None,
        *,
        also: Sequence[Load] = (),
        bundles: BundleSource | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        zmq_port: int = 0,
        groot_port: int | None = None,
        token: str | None = None,
        admin_token: str | None = None,
        aliases: Aliases = (),
        max_batch: int = 8,
        queue_size: int = 64,
        max_wait_ms: float = 0.0,
        max_body: int = MAX_BODY,
        tls: ssl.SSLContext | None = None,
        curve: CurveServer | None = None,
        grace_s: float = 30.0,
    ) -> None:
        self._grace_s, self._aliases = grace_s, aliases
        self._stop_lock = threading.Lock()
        self._finished: bool | None = None
        self.engine = Engine(max_batch=max_batch, queue_size=queue_size, max_wait_ms=max_wait_ms)
        self._loader = PolicyLoader(self.engine, max_batch=max_batch)
        self._first = ([Load(make_predictor, activate=True)] if make_predictor is not None else []) + [*also]
        self._watch: PolicyWatch | None = None
        if bundles is not None and bundles.watch is not None:
            self._watch = PolicyWatch(bundles.watch, self.engine, self._loader, bundles.open)
        shelf = None if bundles is None else BundleShelf(self._loader, bundles.open, bundles.roots)
        self._http = HttpDoor(host, port, tls=tls, max_body=max_body)
        self._intake = Intake(self.engine, capacity=queue_size)
        app = create_app(
            self._intake,
            token=token,
            admin_token=admin_token,
            aliases=aliases,
            shelf=shelf,
            max_body=max_body,
        )
        self._app = HttpRequestId(app)
        self._routers: list[Router] = []
        native, groot = NativeTalk(self._intake, token), GrootTalk(self._intake, token, aliases)

        def bind(flag: str, talk: Talk, at: int, keys: CurveServer | None) -> str:
            address = f"tcp://{bracketed(self._http.address)}:{at or '*'}"
            try:
                router = Router(talk, self.engine.metrics, address, max_bytes=max_body, curve=keys)
            except zmq.ZMQError as error:
                self._unbind()
                raise UsageError(cannot_bind(flag, host, at, error.errno)) from None
            self._routers.append(router)
            return f"tcp://{bracketed(reachable(self._http.address))}:{router.url.rpartition(':')[2]}"

        self.http_url = self._http.url
        self.zmq_url = bind("--zmq-port", native, zmq_port, curve)
        # GR00T's clients do not know CURVE.
        self.groot_url = None if groot_port is None else bind("--groot-port", groot, groot_port, None)

    @property
    def ready(self) -> Future[ServedPolicy]:
        """Resolves when the policy is warm; raises what loading it raised."""
        return self.engine.ready

    def start(self) -> None:
        """Open the doors and begin to load; returns at once."""
        self.engine.start()
        self._loader.start()
        for router in self._routers:
            router.start()
        self._http.start(self._app)
        if self._first:
            self._loader.load(*self._first).add_done_callback(self._loaded)
        elif self._watch is not None:
            self._watch.start()

    def stop(self) -> bool:
        """Finish what is queued, refuse what is new, close the doors; False when the grace time ran out.

        Calling it again waits for the same end.
        """
        with self._stop_lock:
            if self._finished is None:
                self._finished = self._stop()
            return self._finished

    def _loaded(self, first: Future[list[ServedPolicy]]) -> None:
        error = first.exception()
        if error is not None:
            self.engine.fail(error)
            return
        if self._watch is not None:
            self._watch.start()
        active = first.result()[0]
        for row in foreign(self._aliases, active.spec):
            log.warning("--alias %s: %s has no such camera, sensor or entries", row, active.label)

    def _stop(self) -> bool:
        ends = time.monotonic() + self._grace_s
        self.engine.retire()
        if self._watch is not None:
            self._watch.stop()
        self._intake.close()
        finished = self.engine.drain(max(0.0, ends - time.monotonic()))
        if not finished:
            log.warning("work was still running after %g s; it is abandoned", self._grace_s)
        # A load that runs would meet an interpreter that is being torn down.
        self._loader.close(max(0.0, ends - time.monotonic()))
        for router in self._routers:
            router.stop(timeout=5.0 if finished else 0.0)
        self._http.stop()
        return finished

    def _unbind(self) -> None:
        """Let go of what was bound before a port that cannot be."""
        for router in self._routers:
            router.unbind()
        self._http.stop()
        self._intake.close()

    def __enter__(self) -> RunningServer:
        self.start()
        try:
            self.ready.result()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
