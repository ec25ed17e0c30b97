"""A sender's clock is known through its least delayed messages, and no single timestamp can spoil it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.robots.needle_rig_clock import AGREEING, DRIFT, STEP_S, ClockOffset


def fed(
    offset: float, latencies: list[float], clock: ClockOffset | None = None, start: float = 0.0
) -> ClockOffset:
    clock = clock or ClockOffset()
    for i, latency in enumerate(latencies):
        received = start + i * 0.01
        clock.add(received - offset - latency, received)
    return clock


@given(st.floats(-1e6, 1e6), st.lists(st.floats(0.0, 0.2), min_size=1, max_size=50))
def test_the_offset_is_off_by_the_shortest_way_and_no_more(offset: float, latencies: list[float]) -> None:
    found = fed(offset, latencies).offset
    assert found == pytest.approx(offset + min(latencies), abs=1e-6 + DRIFT * 0.01 * len(latencies))


def test_a_clock_three_seconds_ahead_is_seen_through() -> None:
    clock = fed(-3.0, [0.004, 0.001, 0.03])
    assert clock.local(103.0) == pytest.approx(100.001)


def test_one_absurd_timestamp_moves_nothing() -> None:
    clock = fed(0.0, [0.002] * 10)
    assert not clock.add(1e12, 1.0)
    assert not clock.add(-1e12, 1.01)
    assert clock.offset == pytest.approx(0.002)
    assert clock.add(1.02 - 0.003, 1.02)


@pytest.mark.parametrize("step", [2.0, 3600.0])
def test_a_clock_that_was_set_forward_is_believed_after_a_few_messages(step: float) -> None:
    clock = fed(0.0, [0.002] * 10)
    believed = [clock.add(1 + i / 100 + step, 1 + i / 100 + 0.002) for i in range(AGREEING + 3)]
    assert believed == [False] * (AGREEING - 1) + [True] * 4
    assert clock.offset == pytest.approx(0.002 - step)
    assert clock.steps == 1


def test_absurd_timestamps_that_disagree_are_never_believed() -> None:
    clock = fed(0.0, [0.002] * 10)
    assert not any(clock.add(1e6 * (i + 1), 1.0 + i / 100) for i in range(30))
    assert clock.offset == pytest.approx(0.002)


@pytest.mark.parametrize("late", [2.0, 3600.0])
def test_late_messages_are_late_however_many_agree(late: float) -> None:
    clock = fed(0.0, [0.002] * 10)
    believed = [clock.add(1 + i / 100 - late, 1 + i / 100) for i in range(1000)]
    assert not any(believed)
    assert clock.offset == pytest.approx(0.002)
    assert clock.steps == 0


def test_a_delay_that_creeps_up_and_stays_is_no_offset() -> None:
    creeping = [
        0.002 + min(3.0, i * 0.01 * 0.05) for i in range(9000)
    ]  # 50 ms more each second, for a minute
    clock = fed(0.0, creeping)
    assert clock.offset is not None
    assert 0.002 <= clock.offset <= 0.002 + DRIFT * 90


def test_messages_that_were_late_are_believed_when_they_are_in_time_again() -> None:
    clock = fed(0.0, [0.002] * 10 + [STEP_S + 0.1] * 100)
    assert clock.add(2.0 - 0.003, 2.0)
    assert clock.offset == pytest.approx(0.002, abs=DRIFT * 2)


@pytest.mark.parametrize("back", [0.3, 2.0, 3600.0])
def test_a_clock_that_was_set_back_is_learnt_anew(back: float) -> None:
    clock = fed(0.0, [0.002] * 10)
    fed(back, [0.002] * 10, clock, start=1.0)
    assert clock.offset == pytest.approx(0.002, abs=DRIFT * 2)  # as though they were late
    clock.learn_anew()
    fed(back, [0.004, 0.002], clock, start=2.0)
    assert clock.offset == pytest.approx(back + 0.002)


@pytest.mark.parametrize("drift", [DRIFT, -DRIFT])
def test_a_slow_drift_is_followed(drift: float) -> None:
    clock = ClockOffset()
    for i in range(6000):
        received = i * 0.01
        clock.add(received * (1 - drift), received)
    assert clock.offset == pytest.approx(drift * 59.99, abs=1e-6)


def test_an_absurd_first_timestamp_is_outvoted() -> None:
    clock = ClockOffset()
    clock.add(1e12, 0.0)
    fed(0.5, [0.002] * (AGREEING + 1), clock, start=0.1)
    assert clock.offset == pytest.approx(0.502)
