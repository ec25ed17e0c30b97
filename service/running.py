"""A whole server in this process: engine, HTTP door and ZeroMQ door, started and stopped together."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType

import uvicorn
import zmq

from policy.errors import UsageError
from policy.predictor import Predictor
from service.app import MAX_BODY, create_app
from service.engine import Engine, ServedPolicy
from service.intake import Intake
from service.listen import bind_http, bracketed, cannot_bind, reachable
from service.zmq_door import ZmqDoor

log = logging.getLogger(__name__)


class RunningServer:
    """`with RunningServer(NullPolicy) as server:` serves on free loopback ports until the block ends.

    Both ports are bound when it is made, before any policy is loaded. The doors answer from `start` on,
    `not_ready` until the policy is warm; entering the block waits for that.

    Args:
        make_predictor: loads the policy; called on the engine's thread.
        host: address of both doors.
        port: of HTTP; 0 takes a free one.
        zmq_port: of ZeroMQ; 0 takes a free one.
        token: bearer token of both doors; None leaves them open.
        max_batch: requests that may share one run.
        queue_size: requests that may wait.
        max_body: bytes of an HTTP body or of a ZeroMQ frame.
        grace_s: seconds that queued work may take after `stop`.

    Raises:
        UsageError: a port is in use, or the host is no address.
    """

    def __init__(
        self,
        make_predictor: Callable[[], Predictor],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        zmq_port: int = 0,
        token: str | None = None,
        max_batch: int = 8,
        queue_size: int = 64,
        max_body: int = MAX_BODY,
        grace_s: float = 30.0,
    ) -> None:
        self._grace_s = grace_s
        self._stop_lock = threading.Lock()
        self._finished: bool | None = None
        self.engine = Engine(make_predictor, max_batch=max_batch, queue_size=queue_size)
        self._listener = bind_http(host, port)
        address, bound_port = self._listener.getsockname()[:2]
        self._intake = Intake(self.engine, capacity=queue_size)
        zmq_address = f"tcp://{bracketed(address)}:{zmq_port or '*'}"
        try:
            self._zmq = ZmqDoor(self._intake, zmq_address, token=token, max_bytes=max_body)
        except zmq.ZMQError as error:
            self._listener.close()
            self._intake.close()
            raise UsageError(cannot_bind("--zmq-port", host, zmq_port, error.errno)) from None
        self.http_url = f"http://{bracketed(reachable(address))}:{bound_port}"
        self.zmq_url = f"tcp://{bracketed(reachable(address))}:{self._zmq.url.rpartition(':')[2]}"
        config = uvicorn.Config(
            create_app(self._intake, token=token, max_body=max_body),
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            timeout_keep_alive=75,  # seconds; a robot that pauses should not pay for a new connection
            timeout_graceful_shutdown=5,
        )
        self._uvicorn = uvicorn.Server(config)
        self._http = threading.Thread(
            target=self._uvicorn.run, kwargs={"sockets": [self._listener]}, name="http-door", daemon=True
        )

    @property
    def ready(self) -> Future[ServedPolicy]:
        """Resolves when the policy is warm; raises what loading it raised."""
        return self.engine.ready

    def start(self) -> None:
        """Open both doors and begin to load; returns at once."""
        self.engine.start()
        self._zmq.start()
        self._http.start()

    def stop(self) -> bool:
        """Finish what is queued, refuse what is new, close both doors; False when the grace time ran out.

        Calling it again waits for the same end.
        """
        with self._stop_lock:
            if self._finished is None:
                self._finished = self._stop()
            return self._finished

    def _stop(self) -> bool:
        self._intake.close()
        finished = self.engine.drain(self._grace_s)
        if not finished:
            log.warning("work was still running after %g s; it is abandoned", self._grace_s)
        self._uvicorn.should_exit = True
        self._zmq.stop(timeout=5.0 if finished else 0.0)
        self._http.join()
        self._listener.close()
        return finished

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
