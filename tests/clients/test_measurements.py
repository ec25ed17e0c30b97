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


def test_nothing_measured_has_no_summary():
    assert Measurements().summary() is None
