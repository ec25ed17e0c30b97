"""Rows are matched by time, each once; times are believed as far as they agree."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.importing.clocks import ascending, offset_by_span, offsets_to_receiver
from trainer.importing.matching import match_streams, nearest, runs, usable_runs, within
from trainer.importing.sessions import by_number, find_directories, named

TIMES = st.lists(st.integers(0, 12), max_size=9).map(lambda values: np.array(values, float))


@given(times=TIMES)
def test_the_most_rows_are_kept_that_ascend(times):
    kept = ascending(times)
    assert (np.diff(times[kept]) > 0).all()
    most = max(
        len(rows)
        for count in range(len(times) + 1)
        for rows in itertools.combinations(times.tolist(), count)
        if all(a < b for a, b in itertools.pairwise(rows))
    )
    assert kept.sum() == most


@given(times=st.sets(st.integers(0, 50), min_size=1), wanted=TIMES)
def test_the_nearest_row_is_found(times, wanted):
    rows = np.array(sorted(times), float)
    distance = np.abs(rows[None] - wanted[:, None]).min(1)
    np.testing.assert_array_equal(np.abs(rows[nearest(rows, wanted)] - wanted), distance)
    np.testing.assert_array_equal(within(rows, wanted, 2.0), distance <= 2)


@given(
    streams=st.lists(st.sets(st.integers(0, 40)), min_size=1, max_size=4),
    tolerance=st.integers(0, 5),
)
def test_no_row_is_used_twice_and_none_lies_too_far(streams, tolerance):
    times = [np.array(sorted(stream), float) for stream in streams]
    matched = match_streams(times, float(tolerance))
    for column, of in zip(matched.T, times, strict=True):
        assert len(set(column.tolist())) == len(column)
        assert (np.diff(column) > 0).all()
        assert (np.abs(of[column] - times[0][matched[:, 0]]) <= tolerance).all()


def test_streams_at_one_rate_are_matched_in_full():
    base = np.arange(20) / 5
    assert len(match_streams([base, base + 0.009, base - 0.009], 0.01)) == 20
    assert len(match_streams([base, base + 0.011], 0.01)) == 0


def test_runs_are_cut_where_a_row_does_not_follow():
    assert runs(np.array([True, False, True])) == [slice(0, 2), slice(2, 4)]
    assert runs(np.zeros(0, bool)) == [slice(0, 1)]
    assert usable_runs(np.array([True, False, False, True, True])) == [slice(0, 1), slice(3, 5)]
    assert usable_runs(np.zeros(0, bool)) == []


def test_an_offset_that_drifts_is_followed_and_a_wild_message_is_not_believed():
    sent = np.arange(6000) / 100
    drifting = 3.0 + sent * 1e-4
    late = 0.001 + np.random.default_rng(0).exponential(0.003, len(sent))
    sent_wrong = sent.copy()
    sent_wrong[777] += 60
    found = offsets_to_receiver(sent_wrong, sent + drifting + late)
    assert list(np.flatnonzero(np.isnan(found))) == [777]
    believed = np.isfinite(found)
    assert np.abs(found - drifting - 0.001)[believed].max() < 0.0015


def test_of_two_halves_on_clocks_far_apart_one_is_believed():
    sent = np.arange(6) / 100
    found = offsets_to_receiver(sent, sent + np.repeat([0.01, 5.0], 3))
    np.testing.assert_allclose(found, [0.01, 0.01, 0.01, np.nan, np.nan, np.nan])


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ((0.1, 60.0), 0.0),
        ((20.0, 60.1), 0.0),  # came late
        ((-0.1, 31.0), 0.0),  # fell silent
        ((10.0, 40.0), 0.0),  # both, within the other
        ((103.0, 162.9), -102.9),  # another clock; the later of the two estimates
        ((-5.0, 55.1), 5.0),
        ((-5.0, 40.0), None),
    ],
)
def test_a_clock_is_told_by_when_a_stream_begins_and_ends(own, expected):
    found = offset_by_span(own, (0.0, 60.0))
    assert found == expected if expected is None else found == pytest.approx(expected)


def test_sessions_are_found_in_the_order_of_their_numbers_each_by_a_name_of_its_own(tmp_path):
    for name in (
        "b/episode_10",
        "b/episode_9",
        "a/episode_11",
        "a/episode_11/episode_12",
        ".c/episode_1",
        "a b",
        "a-b",
    ):
        (tmp_path / name).mkdir(parents=True)
    found = list(find_directories(tmp_path, lambda path: path.name.startswith("episode_")))
    assert [str(path.relative_to(tmp_path)) for path in found] == [
        "a/episode_11",
        "b/episode_9",
        "b/episode_10",
    ]
    assert sorted(found, key=by_number) == found
    assert list(named(tmp_path, found)) == ["a-episode_11", "b-episode_9", "b-episode_10"]
    assert list(named(tmp_path, [tmp_path / "a b", tmp_path / "a_b", tmp_path / "a-b"])) == [
        "a_b",
        "a_b.2",
        "a-b",
    ]
