"""A server that swaps its policy in the middle of an episode: the same contract drives on, another moves nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from clients.receiver import Receiver, ReceiverSettings
from clients.robots.null import NullRobot
from clients.steady_client import SteadyClient
from policy.errors import TinyVLAError
from policy.null import NullPolicy, null_spec
from policy.observation import Observation
from policy.spec import PolicySpec
from service.wire.messages import ActReply, ActRequest
from tests.clients.test_receiver import PATIENT, FaultyClient

SPEC = null_spec(horizon=48)


class SwappingClient(FaultyClient):
    """Of a server on which another policy becomes active after some replies."""

    def __init__(self, then: PolicySpec, replies: int) -> None:
        super().__init__()
        self.then, self.replies = then, replies

    def act(self, request: ActRequest) -> ActReply:
        if self.number == self.replies:
            self._predictor = NullPolicy(self.then)
        return super().act(request)


class Watching:
    def __init__(self, seen: list) -> None:
        self.seen = seen

    def watch(self, episode, elapsed_s: float) -> None:
        self.seen.append(episode)


def changed(part: str, **values: object) -> PolicySpec:
    """The same contract but for this, and so another policy."""
    return SPEC.model_copy(update={"name": "other", part: getattr(SPEC, part).model_copy(update=values)})


def begun(then: PolicySpec, lines: list[str]) -> Receiver:
    robot = NullRobot(periods=120, control_rate_hz=200.0)
    settings = ReceiverSettings(inference_rate_hz=20.0, limits=PATIENT)
    client = SwappingClient(then, replies=2)
    return Receiver(robot, client, SPEC, settings, lines.append)


def test_a_policy_of_the_same_contract_drives_on_and_is_told_of():
    then, lines = SPEC.model_copy(update={"name": "newer"}), []
    receiver = begun(then, lines)
    outcome = receiver.run_episode(1, session="s")
    assert outcome.success
    assert outcome.trace.policies[SPEC.label] == 2
    assert outcome.trace.policies[then.label] > 0
    assert sum(then.label in line for line in lines) == 1


@pytest.mark.parametrize(
    ("then", "field"),
    [
        (changed("action", rate_hz=20.0), "action.rate_hz"),
        (changed("action", kind="absolute"), "action"),
        (changed("action", names=("a1", "a0", "a2", "a3")), "action.names"),
        (changed("action", units=("m", "m", "m", "1")), "action.units"),
        (changed("state", names=("x", "y", "z", "w")), "state.names"),
    ],
)
def test_chunks_of_another_kind_of_policy_are_never_executed(then, field):
    receiver, episodes = begun(then, []), []
    with pytest.raises(TinyVLAError) as caught:
        receiver.run_episode(1, session="s", watcher=Watching(episodes))
    assert (caught.value.code, caught.value.field) == ("contract_mismatch", field)
    assert set(episodes[0].trace.policies) <= {SPEC.label}


def test_a_policy_that_is_replaced_before_it_can_be_looked_at_may_be_asked_again():
    class Faster(FaultyClient):
        def spec(self) -> PolicySpec:
            return SPEC.model_copy(update={"name": "third"})

        def act(self, request: ActRequest) -> ActReply:
            return replace(super().act(request), policy="second@0123456789ab")

    client = SteadyClient(Faster(), SPEC)
    with pytest.raises(TinyVLAError, match="replaced before it could be checked") as caught:
        client.act(
            ActRequest(Observation({"corner4": np.zeros((8, 8, 3), np.uint8)}, np.zeros(4, np.float32)))
        )
    assert caught.value.code == "not_ready"
