"""The ZeroMQ door: a ROUTER on a thread of its own, whose poll loop no message can end.

Operations: `act`; `reset` (`session`) forgets what waits for a session; `spec` (`policy`) answers `policy`
and the contract as `spec`; `ping` answers `ready` and the active `policy`, nil while it loads.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

import zmq

from policy.errors import TinyVLAError
from service.auth import check_token
from service.engine import as_refusal
from service.intake import Intake
from service.mailbox import Mailbox
from service.wire import zmq_frames
from service.wire.messages import ActReply
from service.wire.values import MAX_NAME, as_text, malformed

log = logging.getLogger(__name__)

_BURST = 64  # messages read before results are looked at again
_FIELDS = {"reset": {"session"}, "spec": {"policy"}, "ping": set[str]()}


@dataclass(frozen=True)
class _Outcome:
    """The engine is done with a call."""

    envelope: list[bytes]
    call_id: int
    future: Future[ActReply]


@dataclass(frozen=True)
class _Stop:
    """Leave when nothing is in flight any more, or at this time of the monotonic clock."""

    at: float


class ZmqDoor:
    """Bound when made, so that a port in use is known at once; serves between `start` and `stop`.

    Args:
        intake: where requests go.
        address: such as ``tcp://127.0.0.1:5570``; port ``*`` takes a free one, see `url`.
        token: what each message must hold; None leaves the door open.
        max_bytes: of one frame; ZeroMQ itself drops the connection of who sends more.

    Raises:
        zmq.ZMQError: the address cannot be bound.
    """

    def __init__(self, intake: Intake, address: str, *, token: str | None, max_bytes: int) -> None:
        self._intake, self._token = intake, token
        self._context = zmq.Context()
        self._router: zmq.Socket = self._context.socket(zmq.ROUTER)
        self._router.setsockopt(zmq.MAXMSGSIZE, max_bytes)
        self._router.setsockopt(zmq.IPV6, address.startswith("tcp://["))
        try:
            self._router.bind(address)
        except zmq.ZMQError:
            self._context.destroy(linger=0)
            raise
        self.url: str = self._router.getsockopt_string(zmq.LAST_ENDPOINT)
        self._mailbox: Mailbox[_Outcome | _Stop] = Mailbox(self._context)
        self._in_flight = 0
        self._thread = threading.Thread(target=self._main, name="zmq-door", daemon=True)

    def start(self) -> None:
        """Serve."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Answer what is in flight, within `timeout` seconds, and close."""
        self._mailbox.put(_Stop(time.monotonic() + timeout))
        self._thread.join()

    def _main(self) -> None:
        poller = zmq.Poller()
        poller.register(self._router, zmq.POLLIN)
        poller.register(self._mailbox.socket, zmq.POLLIN)
        stop_at: float | None = None
        while stop_at is None or (self._in_flight and time.monotonic() < stop_at):
            wait_ms = None if stop_at is None else max(0, round((stop_at - time.monotonic()) * 1e3))
            ready = dict(poller.poll(wait_ms))
            if self._mailbox.socket in ready:
                for item in self._mailbox.take():
                    if isinstance(item, _Stop):
                        stop_at = item.at
                    else:
                        self._in_flight -= 1
                        self._answer(item)
            if self._router in ready:
                self._read_burst()
        self._close()

    def _close(self) -> None:
        self._mailbox.close()
        self._router.close(linger=1000)  # ms for the last replies to leave
        self._context.term()

    def _read_burst(self) -> None:
        for _ in range(_BURST):
            try:
                parts = self._router.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            # REQ puts an empty frame between address and message, DEALER does not have to.
            opening = 2 if len(parts) > 1 and not len(parts[1]) else 1
            envelope = [part.bytes for part in parts[:opening]]
            message = [part.buffer for part in parts[opening:]]
            try:
                self._handle(envelope, message)
            except Exception as error:
                call_id = zmq_frames.call_id_of(message)
                self._send_error(envelope, call_id, as_refusal(error))

    def _handle(self, envelope: list[bytes], message: Sequence[memoryview]) -> None:
        arrived = time.monotonic()
        call = zmq_frames.decode_call(message)
        check_token(self._token, call.token)
        if call.op != "act":
            fields = self._small_talk(call)
            self._send(envelope, zmq_frames.encode_answer(call.id, fields))
            self._intake.engine.metrics.answered("zmq", "ok")
            return
        decode = partial(zmq_frames.decode_request, call)
        accept = self._intake.accept_here if call.is_quick_to_read else self._intake.accept
        self._in_flight += 1
        accept(decode, arrived).add_done_callback(
            lambda future: self._mailbox.put(_Outcome(envelope, call.id, future))
        )

    def _small_talk(self, call: zmq_frames.Call) -> dict[str, object]:
        engine = self._intake.engine
        for key in call.fields:
            if key not in _FIELDS[call.op]:
                raise malformed(key, f"only {sorted(_FIELDS[call.op])} with {call.op}", "an unknown field")
        if call.op == "spec":
            name = call.fields.get("policy")
            policy = engine.named(None if name is None else as_text(name, "policy", limit=MAX_NAME))
            return {"policy": policy.label, "spec": policy.spec.model_dump(mode="json")}
        if call.op == "reset":
            session = call.fields.get("session")
            if session is not None:
                engine.forget_session(as_text(session, "session", limit=MAX_NAME))
            return {}
        try:
            return {"ready": True, "policy": engine.policy.label}
        except TinyVLAError:
            return {"ready": False, "policy": None}

    def _answer(self, outcome: _Outcome) -> None:
        try:
            frames = zmq_frames.encode_reply(outcome.call_id, outcome.future.result())
        except Exception as error:
            self._send_error(outcome.envelope, outcome.call_id, as_refusal(error))
            return
        self._send(outcome.envelope, frames)
        self._intake.engine.metrics.answered("zmq", "ok")

    def _send_error(self, envelope: list[bytes], call_id: int | None, error: TinyVLAError) -> None:
        self._send(envelope, zmq_frames.encode_error(call_id, error))
        self._intake.engine.metrics.answered("zmq", error.code)

    def _send(self, envelope: list[bytes], frames: zmq_frames.Frames) -> None:
        try:
            self._router.send_multipart([*envelope, *frames], zmq.NOBLOCK)
        except zmq.ZMQError as error:
            log.debug("a reply found nobody to take it: %s", error)
