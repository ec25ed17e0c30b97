"""The rig's streams in memory: in order, bounded, with every lost sample counted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.robots.needle_rig_buffers import FrameLog, SensorRing, SourceLatch, StateLog
from clients.robots.needle_rig_contract import SENSOR_CHANNELS
from clients.robots.rig_wire import RobotState, SensorRecords


def records(first: int, count: int = 13) -> SensorRecords:
    """Samples whose force is their number."""
    numbers = np.arange(first, first + count)
    values = np.zeros((count, SENSOR_CHANNELS), np.float32)
    values[:, 0] = numbers
    return SensorRecords(numbers / 650, numbers / 650, values)


def numbers_in(ring: SensorRing, at: int) -> list[int]:
    return ring.window(at / 650)[:, 0].astype(int).tolist()


@given(st.permutations(range(12)), st.sets(st.integers(1, 10), max_size=4))
def test_datagrams_in_any_order_give_ordered_windows_and_right_counts(order, lost) -> None:
    ring = SensorRing(capacity=400)
    for block in order:
        if block not in lost:
            ring.add(records(13 * block))
    kept = [n for n in range(13 * 12) if n // 13 not in lost]
    got = numbers_in(ring, 13 * 12)
    wanted = [n for n in kept if n > 13 * 12 - 66][-65:]
    # What overtook a whole ring's beginning cannot be put before it any more; the rest is there, in order.
    assert got == [n for n in wanted if n in got]
    if order[0] == 0:
        assert got == wanted
        assert ring.lost == len(lost) * 13


def test_the_ring_is_bounded_and_keeps_the_newest() -> None:
    ring = SensorRing(capacity=130)
    for block in range(100):
        ring.add(records(13 * block))
    assert len(ring) == 130
    assert numbers_in(ring, 1299) == list(range(1235, 1300))
    assert ring.received == 1300
    assert ring.lost == 0


def test_a_datagram_that_comes_twice_counts_once() -> None:
    ring = SensorRing()
    ring.add(records(0))
    ring.add(records(13))
    ring.add(records(13))
    ring.add(records(0))
    assert len(ring) == 26
    assert ring.dropped == 26


def test_a_late_datagram_finds_its_place_and_is_no_longer_lost() -> None:
    ring = SensorRing()
    ring.add(records(0))
    ring.add(records(26))
    assert ring.lost == 13
    ring.add(records(13))
    assert ring.lost == 0
    assert ring.reordered == 13
    assert numbers_in(ring, 38) == list(range(39))


def test_records_shuffled_within_a_datagram_are_put_in_order() -> None:
    sent, order = records(0), np.random.default_rng(0).permutation(13)
    ring = SensorRing()
    ring.add(records(-13))
    ring.add(SensorRecords(sent.origin_time[order], sent.send_time[order], sent.values[order]))
    assert numbers_in(ring, 12) == list(range(-13, 13))


def state(time: float) -> RobotState:
    return RobotState(time, time, 0.0, (0,) * 6, (time,) * 6)


def test_a_state_is_the_last_one_up_to_an_instant() -> None:
    log = StateLog()
    for tick in range(10):
        assert log.add(state(tick / 100))
    found = log.at(0.055)
    assert found is not None
    assert found.origin_time == 0.05
    assert log.at(-0.01) is None


def test_states_and_pictures_that_run_backwards_are_refused() -> None:
    log, frames = StateLog(), FrameLog()
    assert log.add(state(1.0))
    assert not log.add(state(0.5))
    assert not log.add(state(1.0))
    image = np.zeros((2, 2, 3), np.uint8)
    assert frames.add(1.0, image)
    assert not frames.add(0.8, image)
    assert frames.newest == 1.0


@pytest.mark.parametrize("silence", [0.5, 2.5])
def test_a_second_sender_is_not_heard_until_the_first_is_long_silent(silence: float) -> None:
    latch = SourceLatch()
    assert latch.accepts("first", 0.0)
    assert latch.accepts("second", silence) is (silence > 2)
