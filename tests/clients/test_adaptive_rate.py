"""The adaptive period follows what inference takes, with a little to spare and never too fast."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.adaptive_rate import SHORTEST_S, WINDOW, AdaptivePeriod


def test_until_something_was_measured_the_asked_rate_holds():
    assert AdaptivePeriod(0.2).period_s == 0.2


@given(st.lists(st.floats(0, 5), min_size=1, max_size=40))
def test_it_is_1_15_times_the_mean_of_the_last_ten_and_at_least_a_tenth_of_a_second(took):
    pace = AdaptivePeriod(0.2)
    for seconds in took:
        pace.measured(seconds)
    recent = took[-WINDOW:]
    assert pace.period_s == pytest.approx(max(SHORTEST_S, 1.15 * sum(recent) / len(recent)))
