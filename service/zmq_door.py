"""What is spoken at the ZeroMQ door: PROTOCOLS' own messages.

Operations: `act`; `reset` (`session`) forgets what waits for a session; `spec` (`policy`) answers `policy`
and the contract as `spec`; `ping` answers `ready` and the active `policy`, nil while it loads.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

from policy.errors import TinyVLAError
from service.auth import check_token
from service.intake import Intake
from service.request_id import begin, current
from service.router import Frames, Pending
from service.wire import zmq_frames
from service.wire.values import as_name, malformed

_FIELDS = {"reset": {"session"}, "spec": {"policy"}, "ping": set[str]()}


class NativeTalk:
    """See `service.router.Talk`.

    Args:
        intake: where requests go.
        token: what each message must hold; None leaves the door open.
    """

    door = "zmq"

    def __init__(self, intake: Intake, token: str | None) -> None:
        self._intake, self._token = intake, token

    def hear(self, message: Sequence[memoryview], sender: bytes) -> Frames | Pending:
        """Answer small talk at once, and hand `act` to the engine."""
        arrived = time.monotonic()
        call = zmq_frames.decode_call(message)
        mark = begin(call.request_id)
        check_token(self._token, call.token)
        if call.op != "act":
            return zmq_frames.encode_answer(call.id, self._small_talk(call), mark.id)
        accept = self._intake.accept_here if call.is_quick_to_read else self._intake.accept
        return Pending(
            accept(partial(zmq_frames.decode_request, call), arrived, client=sender),
            partial(zmq_frames.encode_reply, call.id, request_id=mark.id),
            partial(zmq_frames.encode_error, call.id, request_id=mark.id),
        )

    def refuse(self, message: Sequence[memoryview], error: TinyVLAError) -> Frames:
        """The problem map, under the message's id where it can be read."""
        mark = current() or begin()  # unreadable messages have an id as well
        return zmq_frames.encode_error(zmq_frames.call_id_of(message), error, mark.id)

    def _small_talk(self, call: zmq_frames.Call) -> dict[str, object]:
        engine = self._intake.engine
        for key in call.fields:
            if key not in _FIELDS[call.op]:
                raise malformed(key, f"only {sorted(_FIELDS[call.op])} with {call.op}", "an unknown field")
        if call.op == "spec":
            name = call.fields.get("policy")
            policy = engine.named(None if name is None else as_name(name, "policy"))
            return {"policy": policy.label, "spec": policy.spec.model_dump(mode="json")}
        if call.op == "reset":
            session = call.fields.get("session")
            if session is not None:
                engine.forget_session(as_name(session, "session"))
            return {}
        try:
            return {"ready": True, "policy": engine.policy.label}
        except TinyVLAError:
            return {"ready": False, "policy": None}
