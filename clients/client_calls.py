"""What every client offers, over whatever exchange of one question for one answer its transport has."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from clients.client_options import ClientOptions
from clients.conversation import Conversation, Language, aconverse, converse
from service.wire.messages import ActReply, ActRequest

if TYPE_CHECKING:
    from policy.spec import PolicySpec


class BlockingCalls(ABC):
    """See `clients.client.PolicyClient`."""

    def __init__(self, url: str, language: Language, options: ClientOptions) -> None:
        self.url = url
        self._options = options
        self._conversation = Conversation(language, options)

    def spec(self) -> PolicySpec:
        """The contract of the policy that `act` asks."""
        return converse(self._conversation.spec(), self._exchange, self._options)

    def act(self, request: ActRequest) -> ActReply:
        """One observation in, one chunk out."""
        return converse(self._conversation.act(request), self._exchange, self._options)

    def reset(self, session: str) -> None:
        """Forget what the server keeps of a session."""
        converse(self._conversation.reset(session), self._exchange, self._options)

    @abstractmethod
    def close(self) -> None:
        """Release the connection; no call may follow."""

    @abstractmethod
    def _exchange(self, question: Any, left_s: float) -> Any:
        """Ask, and wait for the answer at most `left_s` seconds; raises as `PolicyClient` says."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncCalls(ABC):
    """See `clients.client.AsyncPolicyClient`; calls may overlap."""

    def __init__(self, url: str, language: Language, options: ClientOptions) -> None:
        self.url = url
        self._options = options
        self._conversation = Conversation(language, options)

    async def spec(self) -> PolicySpec:
        """The contract of the policy that `act` asks."""
        return await aconverse(self._conversation.spec(), self._exchange, self._options)

    async def act(self, request: ActRequest) -> ActReply:
        """One observation in, one chunk out."""
        return await aconverse(self._conversation.act(request), self._exchange, self._options)

    async def reset(self, session: str) -> None:
        """Forget what the server keeps of a session."""
        await aconverse(self._conversation.reset(session), self._exchange, self._options)

    @abstractmethod
    async def close(self) -> None:
        """Release the connection; calls that still wait end with a `ConnectionError`."""

    @abstractmethod
    async def _exchange(self, question: Any, left_s: float) -> Any:
        """Ask, and wait for the answer at most `left_s` seconds; raises as `PolicyClient` says."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
