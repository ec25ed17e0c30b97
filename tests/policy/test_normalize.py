"""Normalisation goes there and back, constant dimensions included."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.normalize import from_unit, range_stats, standardize, to_unit
from policy.spec import MeanStdStats, RangeStats

NUMBERS = st.floats(-1e4, 1e4, width=32)


@given(
    low=st.lists(NUMBERS, min_size=1, max_size=5),
    spans=st.lists(st.one_of(st.just(0.0), st.floats(2**-10, 1e4, width=32)), min_size=5, max_size=5),
    shares=st.lists(st.floats(-0.5, 1.5, width=32), min_size=5, max_size=5),
)
@settings(max_examples=200, deadline=None)
def test_normalising_and_back_is_the_identity_inside_and_outside_the_range(low, spans, shares):
    width = len(low)
    minimum = np.float32(low)
    maximum = minimum + np.float32(spans[:width])
    stats = RangeStats(minimum=tuple(map(float, minimum)), maximum=tuple(map(float, maximum)))
    values = minimum + np.float32(shares[:width]) * (maximum - minimum)
    back = from_unit(to_unit(values, stats), stats)
    scale = np.maximum(np.abs(minimum), np.abs(maximum)) + 1e-3
    assert np.all(np.abs(back - values) <= 4 * np.finfo(np.float32).eps * scale * 4)


@given(st.lists(st.lists(NUMBERS, min_size=2, max_size=2), min_size=2, max_size=20))
@settings(max_examples=100, deadline=None)
def test_the_training_data_lie_in_the_unit_range(rows):
    values = np.float32(rows)
    unit = to_unit(values, range_stats(values))
    # A range that float32 cannot resolve beside its own offset is the one thing that may stick out.
    resolvable = np.ptp(values, axis=0) > 1e-3 * np.maximum(1e-3, np.abs(values).max(0))
    assert np.all(np.abs(unit[:, resolvable]) <= 1 + 1e-3)


def test_the_ends_of_the_range_are_plus_and_minus_one():
    stats = RangeStats(minimum=(-2.0, 0.0), maximum=(4.0, 0.5))
    np.testing.assert_allclose(
        to_unit(np.float32([[-2, 0], [4, 0.5], [1, 0.25]]), stats), [[-1, -1], [1, 1], [0, 0]]
    )


def test_a_dimension_that_never_varied_maps_to_zero_and_back_exactly():
    stats = RangeStats(minimum=(0.3,), maximum=(0.3,))
    assert to_unit(np.float32([0.3]), stats)[0] == 0.0
    assert from_unit(np.float32([0.0]), stats)[0] == np.float32(0.3)
    # And what a robot sends beyond it stays finite and small.
    assert abs(to_unit(np.float32([0.35]), stats)[0]) < 0.1


def test_a_sensor_window_gets_zero_mean_and_unit_variance():
    rng = np.random.default_rng(0)
    window = rng.normal([5.0, -2.0], [3.0, 0.1], (4000, 2)).astype(np.float32)
    stats = MeanStdStats(mean=tuple(map(float, window.mean(0))), std=tuple(map(float, window.std(0))))
    found = standardize(window, stats)
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(found.std(0), 1, atol=1e-3)


def test_a_silent_sensor_channel_does_not_divide_by_zero():
    found = standardize(np.full((3, 1), 2.0), MeanStdStats(mean=(2.0,), std=(0.0,)))
    np.testing.assert_array_equal(found, 0.0)


def test_results_are_float32_whatever_comes_in():
    stats = RangeStats(minimum=(0.0,), maximum=(1.0,))
    for dtype in (np.float64, np.float32, np.int64):
        assert to_unit(np.zeros(1, dtype), stats).dtype == np.float32
        assert from_unit(np.zeros(1, dtype), stats).dtype == np.float32
