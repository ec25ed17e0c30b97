"""Simulated time keeps the receiver's order of things: delays to the period, one request at a time."""

from __future__ import annotations

import numpy as np
import pytest

from clients.chunk_buffer import ChunkPolicy
from clients.episode import Episode
from clients.episode_settings import ReceiverSettings, episode_settings
from clients.inprocess import InProcessClient
from clients.robots.null import NullRobot
from clients.simulated_time import SimulatedClock, run_simulated
from policy.null import NullPolicy, null_spec
from service.wire.messages import ActReply, ActRequest

SPEC = null_spec()


def run(
    chunk_policy: ChunkPolicy, delay_s: float, *, periods: int = 240, client: InProcessClient | None = None
) -> tuple[NullRobot, Episode]:
    clock = SimulatedClock()
    robot = NullRobot(periods=periods, clock=clock)
    settings = ReceiverSettings(chunk_policy=chunk_policy, seed=1)
    episode = Episode(robot, SPEC, episode_settings(robot.info, SPEC, settings, 1, "s"))
    client = client or InProcessClient(NullPolicy(SPEC))
    ran = run_simulated(robot, client, episode, clock, delay_s=lambda request: delay_s)
    assert ran == periods
    assert clock.now == pytest.approx(periods / 80)
    return robot, episode


@pytest.mark.parametrize(("delay_ms", "consumed"), [(0, 0), (50, 4), (51, 5), (100, 8), (200, 16)])
def test_a_reply_comes_after_its_delay_to_the_period(delay_ms, consumed):
    _, episode = run("receding", delay_ms / 1e3)
    requests = list(episode.trace.requests)
    for request in requests:
        assert request.ended_at - request.sent_at == pytest.approx(-(-delay_ms * 80 // 1000) / 80)
    assert [request.consumed for request in requests[1:]] == [consumed] * (len(requests) - 1)
    assert episode.trace.waited == consumed  # only before the first chunk
    assert episode.trace.held == 0


@pytest.mark.parametrize(("delay_ms", "every"), [(0, 16), (150, 16), (200, 17), (400, 33), (800, 65)])
def test_requests_keep_to_their_rate_and_one_that_overran_is_followed_by_the_next(delay_ms, every):
    """One period after its splice, when the robot has begun to follow it."""
    _, episode = run("receding", delay_ms / 1e3, periods=400)
    sent = [round(request.sent_at * 80) for request in episode.trace.requests]
    assert sent == list(range(0, 400, every))[: len(sent)]


def test_the_robot_is_not_asked_about_twice_where_it_stands():
    _, episode = run("rtc", 0.2)
    steps = [request.obs_step for request in episode.trace.requests]
    assert steps == sorted(set(steps))


def test_without_delay_sync_is_lock_step():
    robot, episode = run("sync", 0.0)
    assert len(robot.executed) == 240
    assert [request.obs_step for request in episode.trace.requests] == list(range(0, 240, 16))


def test_the_same_episode_again_is_the_same_to_the_bit():
    first, again = run("rtc", 0.1)[0], run("rtc", 0.1)[0]
    np.testing.assert_array_equal(first.commands, again.commands)


def test_a_failed_request_is_told_when_its_reply_would_have_come():
    class Broken(InProcessClient):
        def act(self, request: ActRequest) -> ActReply:
            if request.seq == 2:
                raise ConnectionError("gone")
            return super().act(request)

    _, episode = run("receding", 0.1, client=Broken(NullPolicy(SPEC)))
    assert episode.trace.outcomes["connection"] == 1
    [failed] = [request for request in episode.trace.requests if request.outcome == "connection"]
    assert failed.ended_at - failed.sent_at == pytest.approx(0.1)
