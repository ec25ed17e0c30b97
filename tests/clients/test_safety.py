"""The safety layer: no unsafe command leaves, each cause is told once, and it recovers by itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from clients.safety import SLOW, Fault, SafetyLayer
from clients.safety_limits import RESPONSES, Cause, Response, SafetyLimits
from policy.null import null_spec

ACTION = null_spec(action_dim=3).action
ZERO = np.zeros(3, np.float32)
FINE = np.array([0.5, -0.25, 1.0], np.float32)


def layer(
    max_change: float | None = None, lines: list[str] | None = None, **responses: Response
) -> SafetyLayer:
    limits = replace(SafetyLimits.of(ACTION, max_change=max_change), responses=responses)
    return SafetyLayer(limits, 1 / 80, (2,), (lambda line: None) if lines is None else lines.append)


any_action = hnp.arrays(np.float32, 3, elements=st.floats(width=32, allow_nan=True, allow_infinity=True))


@given(st.lists(any_action, max_size=20), st.sampled_from([None, 0.1]))
def test_every_command_that_leaves_is_finite_in_bounds_and_slow_enough(planned, max_change):
    safety, last = layer(max_change), ZERO
    for action in planned:
        command = safety.command(action, last, 0.0).command
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
    np.testing.assert_array_equal(safety.command(action, ZERO, 0.0).command, action)
    assert safety.counts() == {}


@pytest.mark.parametrize("cause", [cause for cause in RESPONSES if RESPONSES[cause][0] == "hold"])
def test_each_cause_holds_is_named_once_and_ends_by_itself(cause: Cause):
    lines: list[str] = []
    safety = layer(lines=lines)
    planned, faults = FINE, {}
    if cause == "starved":
        planned = None
    elif cause == "non_finite":
        planned = np.array([0, np.nan, 0], np.float32)
    else:
        faults = {cause: Fault("because")}
    for _ in range(5):
        assert safety.command(planned, ZERO, 0.0, faults).command is None
    assert safety.command(FINE, ZERO, 0.0).command is not None
    for _ in range(2):
        safety.command(planned, ZERO, 0.0, faults)
    assert safety.counts() == {cause: {"onsets": 2, "steps": 7}}
    assert len(lines) == 3
    assert lines[0].startswith(f"safety: holding ({cause}): ")
    assert lines[1] == f"safety: {cause} is over"


def test_having_no_plan_is_no_fault_while_waiting_is_as_it_should_be():
    safety = layer()
    assert safety.command(None, ZERO, 0.0, waiting=True).command is None
    assert safety.counts() == {}


def test_clamping_is_counted_as_bounds():
    safety = layer()
    command = safety.command(np.float32([2, -3, 0.5]), ZERO, 0.0).command
    np.testing.assert_array_equal(command, np.float32([1, -1, 0.5]))
    assert safety.counts() == {"bounds": {"onsets": 1, "steps": 1}}


def test_a_fault_that_is_not_serious_yet_is_told_and_the_plan_goes_on():
    lines: list[str] = []
    safety = layer(lines=lines)
    noted, lasting = Fault("NaN in x", serious=False), Fault("NaN in x")
    for _ in range(3):
        np.testing.assert_array_equal(safety.command(FINE, ZERO, 0.0, {"bad_state": noted}).command, FINE)
    for _ in range(2):
        assert safety.command(FINE, ZERO, 0.0, {"bad_state": lasting}).command is None
    safety.command(FINE, ZERO, 0.0)
    assert safety.counts() == {"bad_state": {"onsets": 1, "steps": 2}}
    assert lines == [
        "safety: bad_state: NaN in x; the plan goes on",
        "safety: holding (bad_state): NaN in x",
        "safety: bad_state is over",
    ]


def test_what_the_operator_wants_to_stop_for_stops():
    safety = layer(bounds="stop", stale_camera="stop")
    assert safety.command(FINE, ZERO, 0.0).stop is None
    decision = safety.command(FINE * 3, ZERO, 0.0)
    assert (decision.command, decision.stop) == (None, "bounds")
    assert safety.command(FINE, ZERO, 0.0, {"stale_camera": Fault("frozen", serious=False)}).stop is None
    assert safety.command(FINE, ZERO, 0.0, {"stale_camera": Fault("frozen")}).stop == "stale_camera"


def test_a_limit_may_hold_instead_of_clamping():
    assert layer(bounds="hold").command(FINE * 3, ZERO, 0.0).command is None


def test_uncertain_slows_the_motion_and_leaves_the_gripper():
    safety = layer(uncertain="slow")
    command = safety.command(FINE, ZERO, 0.0, {"uncertain": Fault("samples differ")}).command
    np.testing.assert_allclose(command, [0.5 * SLOW, -0.25 * SLOW, 1.0])
    assert safety.counts() == {"uncertain": {"onsets": 1, "steps": 1}}
    holding = layer(uncertain="hold")
    assert holding.command(FINE, ZERO, 0.0, {"uncertain": Fault("samples differ")}).command is None


def test_slowing_an_absolute_target_goes_half_the_way():
    limits = replace(SafetyLimits.of(ACTION), kind="absolute")
    last = np.array([0.5, 0.5, 0.0], np.float32)
    command = SafetyLayer(limits, 1 / 80).command(FINE, last, 0.0, {"uncertain": Fault("")}).command
    np.testing.assert_allclose(command, last + SLOW * (FINE - last))


def test_a_missed_beat_is_told_once_and_over_when_control_runs_again():
    lines: list[str] = []
    safety = layer(lines=lines)
    for silent in (0.11, 0.12, 0.13):
        safety.missed_beat(silent)
    safety.command(FINE, ZERO, 0.0)
    assert safety.counts() == {"watchdog": {"onsets": 1, "steps": 3}}
    assert lines == [
        "safety: holding (watchdog): the control thread has not run for 0.11 s",
        "safety: watchdog is over",
    ]


def test_every_cause_has_a_default_response_that_is_allowed():
    limits = SafetyLimits.of(ACTION)
    for cause, allowed in RESPONSES.items():
        assert limits.response(cause) == allowed[0]
        assert allowed[0] != "stop"  # nothing ends an episode unless the operator asks for it
