"""Calls as ZeroMQ messages with ids, for the blocking client and the async one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from clients.client_options import ClientOptions
from clients.conversation import Call, read_spec
from policy.errors import TinyVLAError
from service.wire import zmq_frames
from service.wire.messages import ActReply, ActRequest

if TYPE_CHECKING:
    from policy.spec import PolicySpec

Question = tuple[int, zmq_frames.Frames]  # call id and message


class ZmqLanguage:
    """Calls as messages with ids."""

    def __init__(self, url: str, token: str | None, options: ClientOptions) -> None:
        self._url, self._token, self._options = url, token, options
        self._last_id = 0

    def ask_spec(self) -> Call[Question, zmq_frames.Answer, PolicySpec]:
        policy = self._options.policy
        answer = yield self._question("spec", {"policy": policy} if policy else {})
        return read_spec(answer.fields.get("spec"), self._url)

    def ask_act(self, request: ActRequest) -> Call[Question, zmq_frames.Answer, ActReply]:
        call_id, options = self._new_id(), self._options
        message = zmq_frames.encode_request(
            request, call_id, token=self._token, image_format=options.image_format, quality=options.quality
        )
        answer = yield call_id, message
        try:
            return zmq_frames.decode_reply(answer)
        except TinyVLAError as error:
            raise ConnectionError(f"{self._url}: {error}") from None

    def ask_reset(self, session: str) -> Call[Question, zmq_frames.Answer, None]:
        yield self._question("reset", {"session": session})

    def _question(self, op: str, fields: Mapping[str, object]) -> Question:
        call_id = self._new_id()
        return call_id, zmq_frames.encode_call(op, call_id, token=self._token, fields=fields)

    def _new_id(self) -> int:
        self._last_id += 1
        return self._last_id


def read_answer(message: Sequence[memoryview], url: str) -> zmq_frames.Answer:
    """A message that came; `ConnectionError` where it is none of the protocol's."""
    try:
        return zmq_frames.decode_answer(message)
    except TinyVLAError as error:
        raise ConnectionError(f"{url}: {error}") from None


def accepted(answer: zmq_frames.Answer) -> zmq_frames.Answer:
    """The answer, or the error that it tells."""
    if answer.error is not None:
        raise answer.error
    return answer
