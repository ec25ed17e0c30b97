"""The loop keeps its grid: late ticks run at once, missed ones are skipped, none are made up for."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.pacing import Pacer, TickGrid


class SimulatedClock:
    """Time that passes only when somebody sleeps or works; spinning costs a microsecond a look."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        self.now += 1e-6
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@given(st.lists(st.floats(0, 0.05), min_size=1, max_size=60))
def test_ticks_stay_on_the_grid_and_never_come_in_a_burst(work):
    clock = SimulatedClock()
    pacer = Pacer(100.0, clock=clock, sleep=clock.sleep)
    started = clock.now
    ticks = []
    for seconds in work:
        ticks.append(pacer.wait())
        clock.now += seconds
    for tick in ticks:
        assert tick.due == pytest.approx(started + tick.index * 0.01, abs=1e-9)
        assert tick.due <= tick.began < tick.due + 0.01 + 1e-4
    indices = [tick.index for tick in ticks]
    assert all(later > earlier for earlier, later in pairwise(indices))
    assert indices[-1] + 1 == len(ticks) + pacer.skipped
    assert pacer.ticks == len(ticks)


def test_a_tick_a_little_late_is_not_skipped():
    clock = SimulatedClock()
    pacer = Pacer(100.0, clock=clock, sleep=clock.sleep)
    pacer.wait()
    clock.now += 0.015
    late = pacer.wait()
    assert (late.index, late.skipped) == (1, 0)
    following = pacer.wait()
    assert following.began == pytest.approx(following.due, abs=1e-5)


def test_an_overrun_skips_what_has_gone_by():
    clock = SimulatedClock()
    pacer = Pacer(100.0, clock=clock, sleep=clock.sleep)
    pacer.wait()
    clock.now += 0.045
    tick = pacer.wait()
    assert (tick.index, tick.skipped) == (4, 3)


def test_a_rate_of_zero_is_refused():
    with pytest.raises(ValueError, match="positive"):
        TickGrid(0.0, 0.0)
