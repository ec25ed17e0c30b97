"""What the receiver needs of a policy, whether it answers over HTTP, over ZeroMQ or in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from policy.spec import PolicySpec
    from service.wire.messages import ActReply, ActRequest


class PolicyClient(Protocol):
    """One connection to one policy. Not thread-safe: one thread uses it at a time.

    Every method raises `TinyVLAError` with the server's code when the request was refused, and
    `ConnectionError` (or its subclass `ConnectionRefusedError`) with a one-line reason when no answer came.
    Both leave the client usable: the next call reconnects.
    """

    def spec(self) -> PolicySpec:
        """The contract of the policy that answers."""
        ...

    def act(self, request: ActRequest) -> ActReply:
        """One observation in, one chunk out."""
        ...

    def reset(self, session: str) -> None:
        """Forget what the server keeps of a session."""
        ...

    def close(self) -> None:
        """Release the connection; no call may follow."""
        ...


class AsyncPolicyClient(Protocol):
    """`PolicyClient` for one event loop, with the same errors. Calls may overlap."""

    async def spec(self) -> PolicySpec: ...

    async def act(self, request: ActRequest) -> ActReply: ...

    async def reset(self, session: str) -> None: ...

    async def close(self) -> None: ...
