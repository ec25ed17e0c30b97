"""An injected delay is the whole time to a reply, not something on top."""

from __future__ import annotations

import numpy as np
import pytest

from clients.delayed_client import DelayedClient
from clients.inprocess import InProcessClient
from clients.simulated_time import SimulatedClock
from policy.null import NullPolicy, null_spec
from policy.observation import Observation
from service.wire.messages import ActReply, ActRequest


@pytest.mark.parametrize(("takes", "whole"), [(0.0, 0.2), (0.15, 0.2), (0.5, 0.5)])
def test_a_reply_comes_no_earlier_than_asked_and_no_later_than_it_must(takes, whole):
    clock = SimulatedClock()

    class Slow(InProcessClient):
        def act(self, request: ActRequest) -> ActReply:
            clock.now += takes
            return super().act(request)

    def sleep(seconds: float) -> None:
        clock.now += seconds

    client = DelayedClient(Slow(NullPolicy(null_spec())), 0.2, clock=clock, sleep=sleep)
    image = np.zeros((8, 8, 3), np.uint8)
    client.act(ActRequest(Observation({"corner4": image}, np.zeros(4, np.float32))))
    assert clock.now == pytest.approx(whole)
