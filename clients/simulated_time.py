"""One episode in simulated time: the receiver's order of things without its threads, exact and repeatable.

The robot, the episode and the delay of each request are the real ones; only time is counted in control
periods instead of being waited for. As in the receiver, one request is under way at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from clients.client import PolicyClient
from clients.episode import Episode, PendingRequest
from clients.robots.base import Robot
from policy.errors import TinyVLAError
from service.wire.messages import ActReply


class SimulatedClock:
    """Monotonic seconds that pass when somebody says so; hand it to the robot."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class _UnderWay:
    pending: PendingRequest
    answer: ActReply | TinyVLAError | ConnectionError
    arrives: int  # control period


def run_simulated(
    robot: Robot,
    client: PolicyClient,
    episode: Episode,
    clock: SimulatedClock,
    *,
    delay_s: Callable[[int], float],
    inference_rate_hz: float = 5.0,
    each_period: Callable[[int], None] = lambda period: None,
) -> int:
    """Run until the robot is done; the control periods that took.

    Args:
        robot: already reset; reads `clock` where it stamps observations.
        client: asked at once; its answer is delivered after the delay.
        episode: of this robot.
        clock: advanced by one control period at a time.
        delay_s: sequence number of a request -> seconds from its observation to its reply.
        inference_rate_hz: requests per second at most; a request that overran starts the next at once.
        each_period: told the number of each control period before it runs.
    """
    rate = episode.settings.control_rate_hz
    began, period, due = clock.now, 0, 0.0
    under_way: _UnderWay | None = None
    while not (robot.done or episode.stopped):
        clock.now = began + period / rate
        each_period(period)
        # A reply without delay is spliced in before the period that asked for it, so there may be two turns.
        for _ in range(2):
            if under_way is not None and under_way.arrives <= period:
                _deliver(episode, under_way, clock.now)
                under_way = None
            if under_way is None and _is_due(episode, period, due):
                under_way = _ask(robot, client, episode, clock.now, period, delay_s)
                # The grid of requests moves along when one overran.
                due = max(due + rate / inference_rate_hz, period)
        episode.control_period(clock.now)
        period += 1
    clock.now = began + period / rate
    return period


def _is_due(episode: Episode, period: int, due: float) -> bool:
    return episode.wait_until_wanted(0) and (episode.settings.chunk_policy == "sync" or due <= period)


def _ask(
    robot: Robot,
    client: PolicyClient,
    episode: Episode,
    now: float,
    period: int,
    delay_s: Callable[[int], float],
) -> _UnderWay | None:
    observation = robot.observe()
    if not episode.usable(observation, now) or observation is None:
        return None
    pending = episode.request(observation, now)
    answer: ActReply | TinyVLAError | ConnectionError
    try:
        answer = client.act(pending.request)
    except (TinyVLAError, ConnectionError) as error:
        answer = error
    periods = math.ceil(delay_s(pending.seq) * episode.settings.control_rate_hz - 1e-9)
    return _UnderWay(pending, answer, period + periods)


def _deliver(episode: Episode, under_way: _UnderWay, now: float) -> None:
    if isinstance(under_way.answer, Exception):
        episode.failed(under_way.pending, under_way.answer, now)
    else:
        episode.replied(under_way.pending, under_way.answer, now)
