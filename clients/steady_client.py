"""A client that lets no policy answer that the run was not begun for: servers swap theirs at any time."""

from __future__ import annotations

from collections.abc import Callable

from clients.client import PolicyClient
from clients.contract_check import check_stand_in
from policy.errors import TinyVLAError
from policy.spec import PolicySpec
from service.wire.messages import ActReply, ActRequest


class SteadyClient:
    """Stands before another client; see `clients.client.PolicyClient`.

    Args:
        client: that really asks.
        spec: the contract that robot and settings were checked against.
        log: told a line when another policy begins to answer.
    """

    def __init__(
        self, client: PolicyClient, spec: PolicySpec, log: Callable[[str], None] = lambda line: None
    ) -> None:
        self._client = client
        self._spec = spec
        self._log = log
        self._fit = {spec.label}

    def spec(self) -> PolicySpec:
        """The contract of the policy that answers."""
        return self._client.spec()

    def act(self, request: ActRequest) -> ActReply:
        """One observation in, one chunk out; raises `contract_mismatch` where it is another kind of policy's."""
        reply = self._client.act(request)
        if reply.policy not in self._fit:
            self._look_at(reply.policy)
        return reply

    def reset(self, session: str) -> None:
        self._client.reset(session)

    def close(self) -> None:
        self._client.close()

    def _look_at(self, label: str) -> None:
        spec = self._client.spec()
        if spec.label != label:
            raise TinyVLAError("not_ready", f"{label} answered and was replaced before it could be checked")
        check_stand_in(self._spec, spec)
        self._fit.add(label)
        self._log(f"the server swapped its policy: {label} answers, under the same contract")
