"""Measurements stay bounded; count, mean and maximum stay exact."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from clients.measurements import Measurements


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=700), st.integers(1, 600))
def test_the_newest_values_are_kept_and_the_totals_are_exact(values, capacity):
    measured = Measurements(capacity)
    for value in values:
        measured.add(value)
    assert sorted(measured.values) == sorted(values[-capacity:])
    summary = measured.summary()
    assert summary is not None
    assert summary["count"] == len(values)
    assert summary["max"] == round(max(values), 4)
    assert np.isclose(summary["mean"], np.mean(values), atol=1e-3)


@given(
    st.lists(
        st.tuples(st.lists(st.floats(-1e3, 1e3), max_size=60), st.integers(1, 40)), min_size=1, max_size=3
    ),
    st.integers(1, 100),
)
def test_totals_of_several_together_are_exact_however_little_each_kept(parts, capacity):
    together = Measurements(capacity)
    for values, kept in parts:
        part = Measurements(kept)
        for value in values:
            part.add(value)
        together.merge(part)
    every = [value for values, _ in parts for value in values]
    kept = [value for values, kept in parts for value in values[-kept:]]
    assert together.count == len(every)
    assert together.maximum == max(every, default=float("-inf"))
    assert np.isclose(together.total, sum(every))
    assert len(together.values) == len(together.newest(capacity)) == min(len(kept), capacity)
    assert set(together.values) <= set(kept)


def test_nothing_measured_has_no_summary():
    assert Measurements().summary() is None
