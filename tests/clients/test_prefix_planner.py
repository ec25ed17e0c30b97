"""The prefix is as long as inference takes, and never longer than the policy was trained for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from clients.prefix_planner import SHORTEST, WINDOW, PrefixPlanner


def planner(passed: list[int], longest: int = 32) -> PrefixPlanner:
    made = PrefixPlanner(longest)
    for steps in passed:
        made.measured(steps)
    return made


def test_nothing_is_sent_before_anything_was_measured():
    assert PrefixPlanner(32).length == 0


@given(st.lists(st.integers(0, 60), min_size=3, max_size=40), st.integers(0, 40))
def test_the_length_covers_all_recent_requests_but_one_and_exceeds_none_within_the_trained_limit(
    passed, longest
):
    length = planner(passed, longest).length
    recent = passed[-WINDOW:]
    assert length <= longest
    if length < longest:
        assert sum(steps > length for steps in recent) <= 1
        assert length <= max(SHORTEST, *recent)


def test_one_slow_request_commits_nobody_to_more():
    assert planner([4] * 8 + [30] + [4]).length == 4


def test_a_server_that_slows_down_is_followed():
    assert planner([3] * WINDOW + [12] * 2).length == 12


def test_a_fast_server_gets_a_few_actions_to_continue_smoothly():
    assert planner([0] * WINDOW).length == SHORTEST
