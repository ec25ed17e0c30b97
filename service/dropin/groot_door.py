"""What is spoken at the GR00T door: ping, get_action, get_modality_config and reset; `kill` is refused."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial

import numpy as np

from policy.errors import TinyVLAError
from service.auth import check_token
from service.dropin import groot_codec
from service.dropin.aliases import Aliases
from service.dropin.groot_codec import GrootArrays, GrootCall
from service.dropin.groot_observation import HABITS, MAX_BATCH, GrootObservation, read_observation
from service.dropin.peer_request import peer_request, policy_named
from service.intake import Intake
from service.request_id import begin
from service.router import Frames, Pending
from service.wire.messages import ActReply, ActRequest
from service.wire.problems import problem_of
from service.wire.values import malformed


class GrootTalk:
    """See `service.router.Talk`.

    Args:
        intake: where observations go.
        token: what each message's `api_token` must be; None leaves the door open.
        aliases: what the clients' keys mean to the policy.
    """

    door = "groot"

    def __init__(self, intake: Intake, token: str | None, aliases: Aliases) -> None:
        self._intake, self._engine = intake, intake.engine
        self._token, self._aliases = token, aliases
        self._windows = {alias.key for alias in aliases if alias.sensor is not None}

    def hear(self, message: Sequence[memoryview], sender: bytes) -> Frames | Pending:
        """Answer at once, except `get_action`."""
        arrived = begin().began
        if len(message) != 1:
            raise malformed("message", "one frame", str(len(message)))
        call = groot_codec.read_call(message[0])
        check_token(self._token, call.token)
        session = f"groot-{sender.hex()}"
        if call.endpoint == "get_action":
            return self._get_action(call, session, arrived)
        return [groot_codec.write_message(self._small_talk(call, session))]

    def refuse(self, message: Sequence[memoryview], error: TinyVLAError) -> Frames:
        """GR00T's form of an error."""
        return _error(error)

    def _small_talk(self, call: GrootCall, session: str) -> dict[str, object]:
        match call.endpoint:
            case "ping":
                return {"status": "ok", "message": "Server is running"}
            case "get_modality_config":
                return groot_codec.modality_config(self._engine.policy.spec, self._aliases)
            case "reset":
                for robot in range(MAX_BATCH):
                    self._engine.forget_session(_session(session, robot))
                return {}
            case "kill":
                raise TinyVLAError("forbidden", "no robot may end this server", field="endpoint")
        known = "ping, get_action, get_modality_config or reset"
        raise malformed("endpoint", known, repr(call.endpoint[:80]))

    def _get_action(self, call: GrootCall, session: str, arrived: float) -> Pending:
        arrays = GrootArrays()
        asked = read_observation(call.data, arrays, self._windows)
        spec = self._engine.named(policy_named(asked.robots[0])).spec

        def request(robot: int) -> ActRequest:
            name = _session(session, robot)
            return peer_request(asked.robots[robot], spec, self._aliases, HABITS, name)

        def encode(replies: list[ActReply]) -> Frames:
            return [groot_codec.write_message(self._answer(asked, arrays, replies))]

        accept = self._intake.accept_here
        drawn = [accept(partial(request, robot), arrived) for robot in range(len(asked.robots))]
        return Pending(all_of(drawn), encode, _error)

    def _answer(self, asked: GrootObservation, arrays: GrootArrays, replies: list[ActReply]) -> object:
        chunks = np.stack([reply.actions for reply in replies])  # [B, H, A]
        if not asked.batched:
            [chunks] = chunks
        before = "" if asked.nested else "action."
        actions = {
            before + name: arrays.write(chunks[..., part])
            for name, part in groot_codec.action_keys(chunks.shape[-1], self._aliases)
        }
        info = {"policy": replies[0].policy, "seed": [reply.seed for reply in replies]}
        return [actions, info] if asked.paired else actions


def _session(connection: str, robot: int) -> str:
    return f"{connection}-{robot}" if robot else connection


def all_of(futures: Sequence[Future[ActReply]]) -> Future[list[ActReply]]:
    """Resolves with every result once all are there, or with the first error in order."""
    whole: Future[list[ActReply]] = Future()
    lock, left = threading.Lock(), len(futures)

    def one_more(_: Future[ActReply]) -> None:
        nonlocal left
        with lock:
            left -= 1
            if left:
                return
        try:
            whole.set_result([future.result() for future in futures])
        except Exception as error:
            whole.set_exception(error)

    for future in futures:
        future.add_done_callback(one_more)
    return whole


def _error(error: TinyVLAError) -> Frames:
    detail = problem_of(error)["detail"]
    return [groot_codec.write_message({"error": f"{error.code}: {detail}"})]
