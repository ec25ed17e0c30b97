"""`--inject-delay`: a client whose replies come no earlier than asked, to see what a slow server would do."""

from __future__ import annotations

import time
from collections.abc import Callable

from clients.client import PolicyClient
from policy.spec import PolicySpec
from service.wire.messages import ActReply, ActRequest


class DelayedClient:
    """Stands before another client; see `clients.client.PolicyClient`.

    Args:
        client: that really asks.
        delay_s: from a request to its reply, at least.
        clock: monotonic seconds.
        sleep: blocks for the given seconds.
    """

    def __init__(
        self,
        client: PolicyClient,
        delay_s: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._delay = delay_s
        self._clock = clock
        self._sleep = sleep

    def spec(self) -> PolicySpec:
        """The contract of the policy that answers."""
        return self._client.spec()

    def act(self, request: ActRequest) -> ActReply:
        """One observation in, one chunk out, not before its time."""
        due = self._clock() + self._delay
        reply = self._client.act(request)
        self._sleep(max(0.0, due - self._clock()))
        return reply

    def reset(self, session: str) -> None:
        self._client.reset(session)

    def close(self) -> None:
        self._client.close()
