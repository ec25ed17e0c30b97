"""The prefix is as long as inference takes, and never longer than the policy was trained for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from clients.prefix_planner import MARGIN_STEPS, WINDOW, PrefixPlanner


def test_nothing_is_sent_before_anything_was_measured():
    assert PrefixPlanner(32).length == 0


@given(st.lists(st.integers(0, 60), min_size=1, max_size=40), st.integers(0, 40))
def test_the_length_covers_the_recent_mean_within_the_trained_limit(passed, longest):
    planner = PrefixPlanner(longest)
    for steps in passed:
        planner.measured(steps)
    recent = passed[-WINDOW:]
    mean = sum(recent) / len(recent)
    assert planner.length <= longest
    assert planner.length == longest or mean + MARGIN_STEPS <= planner.length < mean + MARGIN_STEPS + 1


def test_a_server_that_slows_down_is_followed():
    planner = PrefixPlanner(32)
    for steps in [3] * WINDOW + [12] * WINDOW:
        planner.measured(steps)
    assert planner.length == 12 + MARGIN_STEPS
