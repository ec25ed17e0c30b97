"""What is tried again, when, and what never is."""

from __future__ import annotations

import pytest

from clients.retry import NEVER, Retry
from policy.errors import STATUS_BY_CODE, TinyVLAError

BROKEN = ConnectionError("connection reset")
PLENTY_S = 100.0


def test_pauses_double_up_to_their_limit_and_spread_over_the_upper_half():
    retry = Retry(attempts=9, first_s=0.1, most_s=0.5)
    shortest = [retry.pause(n, BROKEN, PLENTY_S, draw=lambda: 0.0) for n in range(1, 6)]
    longest = [retry.pause(n, BROKEN, PLENTY_S, draw=lambda: 1.0) for n in range(1, 6)]
    assert longest == pytest.approx([0.1, 0.2, 0.4, 0.5, 0.5])
    assert shortest == pytest.approx([0.05, 0.1, 0.2, 0.25, 0.25])


def test_the_number_of_attempts_is_kept():
    retry = Retry(attempts=3)
    assert [retry.pause(n, BROKEN, PLENTY_S) is not None for n in (1, 2, 3)] == [True, True, False]
    assert NEVER.pause(1, BROKEN, PLENTY_S) is None


@pytest.mark.parametrize("code", sorted(STATUS_BY_CODE))
def test_only_refusals_that_speak_of_the_server_are_repeated(code):
    pause = Retry().pause(1, TinyVLAError(code, "no"), PLENTY_S)
    assert (pause is not None) == (code in ("overloaded", "not_ready"))


def test_the_server_may_ask_for_a_longer_pause_and_not_for_a_shorter_one():
    error = TinyVLAError("overloaded", "try again")
    error.retry_after_s = 2.0
    assert Retry().pause(1, error, PLENTY_S) == 2.0
    error.retry_after_s = 0.0
    assert Retry(first_s=0.1).pause(1, error, PLENTY_S, draw=lambda: 1.0) == pytest.approx(0.1)


def test_a_pause_that_outlasts_the_call_is_not_begun():
    assert Retry(first_s=0.1).pause(1, BROKEN, left_s=0.1, draw=lambda: 1.0) is None
    assert Retry(first_s=0.1).pause(1, BROKEN, left_s=0.2, draw=lambda: 1.0) is not None


def test_another_kind_of_error_is_a_defect_and_not_repeated():
    assert Retry().pause(1, RuntimeError("bug"), PLENTY_S) is None
