"""Calls as conversations: what is said and understood is written once, for blocking and async clients alike.

A call is a generator that yields what it asks and is sent what was answered, and so knows no socket. `converse`
and `aconverse` carry a call to its end over any exchange of one question for one answer, within the time that the
options give the whole call, trying again as they say.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Generator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from clients.client_options import ClientOptions
from policy.errors import TinyVLAError
from service.wire.messages import ActReply, ActRequest

if TYPE_CHECKING:
    from policy.spec import PolicySpec

Question = TypeVar("Question")
Answer = TypeVar("Answer")
Result = TypeVar("Result")
Call = Generator[Question, Answer, Result]


class Language(Protocol):
    """How the calls that every client makes are put into a transport's words."""

    def ask_spec(self) -> Call[Any, Any, PolicySpec]: ...

    def ask_act(self, request: ActRequest) -> Call[Any, Any, ActReply]: ...

    def ask_reset(self, session: str) -> Call[Any, Any, None]: ...


class Conversation:
    """One client's calls, with what it knows of the policy that answers them.

    Args:
        language: of the transport.
        options: the client's.
    """

    def __init__(self, language: Language, options: ClientOptions) -> None:
        self._language = language
        self._options = options
        self._known: PolicySpec | None = None

    def spec(self) -> Call[Any, Any, PolicySpec]:
        """The policy's contract; raises `contract_mismatch` where the client expects another."""
        self._known = None
        spec = yield from self._language.ask_spec()
        if self._options.expects is not None:
            self._options.expects.check(spec)
        self._known = spec
        return spec

    def act(self, request: ActRequest) -> Call[Any, Any, ActReply]:
        """One observation in, one chunk out; the contract is looked at before the first and after a swap."""
        if self._must_know and self._known is None:
            yield from self.spec()
        reply: ActReply = yield from self._language.ask_act(self._prepared(request))
        if self._known is not None and self._must_know and reply.policy != self._known.label:
            # Another policy answered than the one that was checked: its actions may be for another robot.
            yield from self.spec()
        return reply

    def reset(self, session: str) -> Call[Any, Any, None]:
        """Forget what the server keeps of a session."""
        return self._language.ask_reset(session)

    @property
    def _must_know(self) -> bool:
        return self._options.resize or self._options.expects is not None

    def _prepared(self, request: ActRequest) -> ActRequest:
        """The request as it is sent: addressed to the client's policy, its images as small as that one's."""
        if request.policy is None and self._options.policy is not None:
            request = replace(request, policy=self._options.policy)
        if not self._options.resize or self._known is None:
            return request
        from policy.preprocess import fit_for_sending

        observation, cameras = request.observation, {camera.name: camera for camera in self._known.cameras}
        images = {
            name: fit_for_sending(image, cameras[name]) if name in cameras else image
            for name, image in observation.images.items()
        }
        return replace(request, observation=replace(observation, images=images))


def read_spec(value: object, url: str) -> PolicySpec:
    """A policy's contract; `ConnectionError` where the server sent something else."""
    from pydantic import ValidationError

    from policy.spec import PolicySpec

    try:
        return PolicySpec.model_validate(value)
    except ValidationError as error:
        raise ConnectionError(f"{url} answered no policy spec: {error!s:.200}") from None


def converse(
    call: Call[Any, Any, Result],
    exchange: Callable[[Any, float], Any],
    options: ClientOptions,
) -> Result:
    """Carry a call to its end.

    Args:
        call: see `Conversation`.
        exchange: question and seconds to an answer; raises `ConnectionError` or `TinyVLAError`.
        options: the client's.
    """
    until = time.monotonic() + options.timeout_s
    question, result = _advance(call, None)
    while question is not None:
        failed = 0
        while True:
            try:
                answer = exchange(question, max(0.0, until - time.monotonic()))
                break
            except (TinyVLAError, ConnectionError) as error:
                failed += 1
                pause = _pause(options, failed, error, until)
            time.sleep(pause)
        question, result = _advance(call, answer)
    return result


async def aconverse(
    call: Call[Any, Any, Result],
    exchange: Callable[[Any, float], Awaitable[Any]],
    options: ClientOptions,
) -> Result:
    """`converse` for an event loop, which encoding images does not hold up."""
    until = time.monotonic() + options.timeout_s
    question, result = await asyncio.to_thread(_advance, call, None)
    while question is not None:
        failed = 0
        while True:
            try:
                answer = await exchange(question, max(0.0, until - time.monotonic()))
                break
            except (TinyVLAError, ConnectionError) as error:
                failed += 1
                pause = _pause(options, failed, error, until)
            await asyncio.sleep(pause)
        question, result = await asyncio.to_thread(_advance, call, answer)
    return result


def _pause(options: ClientOptions, failed: int, error: Exception, until: float) -> float:
    """Seconds before the next attempt; raises the error where there is to be none."""
    pause = options.retry.pause(failed, error, until - time.monotonic())
    if pause is None:
        raise error
    return pause


def _advance(call: Generator[Any, Any, Any], answer: object) -> tuple[Any, Any]:
    """The next question and None, or None and the result: a StopIteration may not leave a thread."""
    try:
        return call.send(answer), None
    except StopIteration as end:
        return None, end.value
