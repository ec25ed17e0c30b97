"""A client's load: back to back or at a rate, refusals counted, and no wait left out that a robot would have had."""

from __future__ import annotations

import pytest

from clients.bench.load import run_load
from policy.errors import TinyVLAError


class World:
    """A clock that only sleeping and calling move."""

    def __init__(self, *takes_s: float) -> None:
        self.now = 0.0
        self.began: list[float] = []
        self._takes = list(takes_s)

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def call(self) -> None:
        self.began.append(self.now)
        self.now += self._takes.pop(0) if len(self._takes) > 1 else self._takes[0]


def test_back_to_back_the_next_call_waits_for_the_last() -> None:
    world = World(0.25)
    samples = run_load(world.call, 1.0, 2.0, 0, clock=world.clock, sleep=world.sleep)
    assert world.began == [1.0, 1.25, 1.5, 1.75]
    assert samples.latencies_ms == pytest.approx([250.0] * 4)


def test_at_a_rate_calls_are_made_when_they_are_due() -> None:
    world = World(0.01)
    run_load(world.call, 0.0, 1.0, 4, clock=world.clock, sleep=world.sleep)
    assert world.began == pytest.approx([0.0, 0.25, 0.5, 0.75])


def test_a_stall_counts_for_every_call_that_it_made_late() -> None:
    world = World(0.5, 0.01)
    samples = run_load(world.call, 0.0, 1.0, 10, clock=world.clock, sleep=world.sleep)
    assert samples.latencies_ms[:4] == pytest.approx([500.0, 410.0, 320.0, 230.0])
    assert len(samples.latencies_ms) == 10


def test_a_stall_at_the_end_counts_for_the_calls_that_were_still_due() -> None:
    world = World(*[0.01] * 5, 0.8, 0.01)
    samples = run_load(world.call, 0.0, 1.0, 10, clock=world.clock, sleep=world.sleep)
    assert samples.latencies_ms == pytest.approx([10.0] * 5 + [800.0, 710.0, 620.0, 530.0, 440.0])
    assert samples.in_time == 5


def test_calls_that_a_stall_leaves_no_time_for_are_counted() -> None:
    world = World(0.01, 5.0, 0.01)
    samples = run_load(world.call, 0.0, 1.0, 10, clock=world.clock, sleep=world.sleep)
    assert samples.latencies_ms == pytest.approx([10.0, 5000.0])
    assert samples.errors == {"not_made": 8}


def test_an_answer_after_the_end_is_no_throughput() -> None:
    world = World(0.4)
    samples = run_load(world.call, 0.0, 1.0, 0, clock=world.clock, sleep=world.sleep)
    assert (len(samples.latencies_ms), samples.in_time) == (3, 2)


def test_refusals_are_counted_by_code_and_have_no_latency() -> None:
    world = World(0.1)
    answers = [TinyVLAError("overloaded", "x"), ConnectionError("gone"), None]

    def call() -> None:
        world.call()
        answer = answers.pop(0) if answers else None
        if answer is not None:
            raise answer

    samples = run_load(call, 0.0, 0.45, 0, clock=world.clock, sleep=world.sleep)
    assert samples.errors == {"overloaded": 1, "no_answer": 1}
    assert len(samples.latencies_ms) == 3
