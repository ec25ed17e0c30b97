"""The last minutes are kept in short intervals, bounded, and nothing is lost between threads' clocks."""

from __future__ import annotations

import itertools

import pytest

from service.status.history import _SAMPLES, INTERVAL_S, KEPT, History

START = 1000.0  # an interval begins here


def test_an_interval_tells_percentiles_rates_batches_queue_and_errors() -> None:
    history = History()
    for latency in range(1, 101):
        history.replied(float(latency), START)
    history.ran(4, 3, START)
    history.ran(2, 1, START + 1)
    for code in ("overloaded", "overloaded", "malformed"):
        history.refused(code, START + 1.9)
    last = history.summaries(START + INTERVAL_S)[-1]
    assert (last.begins, last.replies, last.batch, last.queue) == (START, 100, 3.0, 3)
    assert last.latency_ms == pytest.approx((50.5, 95.05, 99.01, 100.0))
    assert last.errors == {"overloaded": 2, "malformed": 1}


def test_quiet_intervals_are_there_and_empty() -> None:
    history = History()
    history.replied(5.0, START)
    history.replied(7.0, START + 3 * INTERVAL_S)
    shown = history.summaries(START + 4 * INTERVAL_S + 0.5)
    assert len(shown) == KEPT
    assert [one.replies for one in shown[-4:]] == [1, 0, 0, 1]
    assert shown[-2].latency_ms is None
    assert shown[-2].batch is None
    steps = {later.begins - earlier.begins for earlier, later in itertools.pairwise(shown)}
    assert steps == {INTERVAL_S}


def test_the_open_interval_is_not_shown_before_it_is_over() -> None:
    history = History()
    history.replied(5.0, START)
    assert sum(one.replies for one in history.summaries(START + INTERVAL_S - 0.1)) == 0
    assert sum(one.replies for one in history.summaries(START + INTERVAL_S)) == 1


def test_what_is_older_than_five_minutes_is_forgotten() -> None:
    history = History()
    for at in range(3 * KEPT):
        history.replied(1.0, START + at * INTERVAL_S)
    assert len(history._intervals) <= KEPT + 1
    end = START + 3 * KEPT * INTERVAL_S
    assert sum(one.replies for one in history.summaries(end)) == KEPT
    assert sum(one.replies for one in history.summaries(end + 2 * KEPT * INTERVAL_S)) == 0


def test_a_busy_interval_counts_on_when_it_keeps_no_more_latencies() -> None:
    history = History()
    for _ in range(_SAMPLES + 10):
        history.replied(1.0, START)
    assert history.summaries(START + INTERVAL_S)[-1].replies == _SAMPLES + 10
    assert len(history._intervals[-1].latencies) == _SAMPLES


def test_a_thread_that_comes_late_is_counted_in_the_newest_interval() -> None:
    history = History()
    history.replied(1.0, START + INTERVAL_S)
    history.refused("malformed", START + INTERVAL_S - 0.001)
    assert history.summaries(START + 2 * INTERVAL_S)[-1].errors == {"malformed": 1}
