"""The safety layer: no unsafe command leaves, each cause is told once, and it recovers by itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from clients.safety import SafetyLayer, SafetyLimits
from policy.null import null_spec

ACTION = null_spec(action_dim=3).action
ZERO = np.zeros(3, np.float32)


def layer(max_change: float | None = None, lines: list[str] | None = None) -> SafetyLayer:
    limits = SafetyLimits.of(ACTION, stale_after_s=1.0, max_change=max_change)
    return SafetyLayer(limits, (lambda line: None) if lines is None else lines.append)


any_action = hnp.arrays(np.float32, 3, elements=st.floats(width=32, allow_nan=True, allow_infinity=True))


@given(st.lists(any_action, max_size=20), st.sampled_from([None, 0.1]))
def test_every_command_that_leaves_is_finite_in_bounds_and_slow_enough(planned, max_change):
    safety, last = layer(max_change), ZERO
    for action in planned:
        command = safety.command(action, last, plan_age_s=0.0)
        if command is None:
            assert not np.isfinite(action).all()
            continue
        assert np.isfinite(command).all()
        assert (np.abs(command) <= 1).all()
        if max_change is not None:
            assert (np.abs(command - last) <= 2 * max_change + 1e-5).all()
        last = command


@given(hnp.arrays(np.float32, 3, elements=st.floats(-1, 1, width=32)))
def test_a_safe_action_passes_unchanged_and_uncounted(action):
    safety = layer()
    np.testing.assert_array_equal(safety.command(action, ZERO, plan_age_s=0.5), action)
    assert safety.counts() == {}


@pytest.mark.parametrize(
    ("planned", "age", "trouble", "cause"),
    [
        (None, 0.0, False, "starved"),
        (np.float32([0, np.nan, 0]), 0.0, False, "non_finite"),
        (ZERO, 1.5, False, "stale_observation"),
        (ZERO, 1.5, True, "stale_server"),
    ],
)
def test_each_cause_holds_is_named_once_and_ends_by_itself(planned, age, trouble, cause):
    lines: list[str] = []
    safety = layer(lines=lines)
    for _ in range(5):
        assert safety.command(planned, ZERO, plan_age_s=age, server_trouble=trouble) is None
    assert safety.command(ZERO, ZERO, plan_age_s=0.0) is not None
    for _ in range(2):
        safety.command(planned, ZERO, plan_age_s=age, server_trouble=trouble)
    assert safety.counts() == {cause: {"onsets": 2, "steps": 7}}
    assert len(lines) == 3
    assert f"({cause})" in lines[0]
    assert lines[1] == f"safety: {cause} is over"


def test_clamping_is_counted_as_bounds():
    safety = layer()
    np.testing.assert_array_equal(
        safety.command(np.float32([2, -3, 0.5]), ZERO, plan_age_s=0.0), np.float32([1, -1, 0.5])
    )
    assert safety.counts() == {"bounds": {"onsets": 1, "steps": 1}}
