"""Seams and jerk, on motions whose figures are known."""

from __future__ import annotations

import numpy as np
import pytest

from clients.episode_trace import EpisodeTrace, StepRecord
from clients.smoothness import episode_smoothness, smoothness
from policy.null import null_spec

RANGE = np.ones(2)


def measure(commands, seam=None, contiguous=None, kind="delta"):
    commands = np.asarray(commands, np.float32)
    seam = np.zeros(len(commands), bool) if seam is None else np.asarray(seam, bool)
    contiguous = np.ones(len(commands), bool) if contiguous is None else np.asarray(contiguous, bool)
    return smoothness(commands, seam, contiguous, action_range=RANGE, kind=kind, rate_hz=10.0)


def test_a_ramp_whose_borders_cannot_be_seen_has_a_ratio_of_one():
    ramp = np.linspace(0, 1, 11)[:, None] * [1, 0]
    result = measure(ramp, seam=[i in (4, 8) for i in range(11)])
    assert result.seams == 2
    assert result.seam_jump_ratio == pytest.approx(1.0, abs=1e-5)
    assert result.jerk == pytest.approx(0.0, abs=1e-3)


def test_a_jump_at_a_border_shows_in_the_ratio():
    ramp = np.linspace(0, 1, 11)[:, None] * [1, 0]
    ramp[5:] += [0.4, 0]
    result = measure(ramp, seam=[i == 5 for i in range(11)])
    assert result.seam_jump_ratio == pytest.approx(5.0, abs=1e-4)


def test_a_pause_between_commands_is_no_seam():
    result = measure([[0, 0], [0.1, 0], [0.9, 0], [1.0, 0]], [0, 0, 1, 0], [1, 1, 0, 1])
    assert result.seams == 0
    assert result.seam_jump is None
    assert result.interior_step == pytest.approx(0.1, abs=1e-6)


def test_the_jerk_of_a_cubic_position_is_its_third_derivative():
    time = np.arange(20) / 10.0
    assert measure((time**3)[:, None] * [1, 0], kind="absolute").jerk == pytest.approx(6.0, rel=1e-3)


def test_a_stop_and_a_start_show_in_the_jerk():
    steady = np.ones((20, 2)) * [0.5, 0]
    halting = steady.copy()
    halting[8:12] = 0
    assert measure(steady).jerk == 0
    assert measure(halting, contiguous=[not 8 <= i <= 12 for i in range(20)]).jerk > 1


def test_an_episode_is_measured_from_its_first_action_on_and_without_its_gripper():
    trace = EpisodeTrace()
    action = null_spec(action_dim=2, rate_hz=10.0).action

    def period(sent, *, held=False, seam=False, contiguous=True):
        sent = np.asarray(sent, np.float32)
        trace.steps.append(StepRecord(0.0, None if held else sent, 0, 0, seam, contiguous, sent))

    period([0, 1], held=True, contiguous=False)
    for number in range(8):
        # A gripper that opens and closes at every step is no motion.
        period([0.1 * number, (-1) ** number], seam=number == 4, contiguous=number > 0)
    measured = episode_smoothness(trace, action, 10.0, kept=(1,))
    assert (measured.seams, measured.interior_steps) == (1, 6)
    assert measured.seam_jump_ratio == pytest.approx(1.0, abs=1e-5)
    assert measured.jerk == pytest.approx(0.0, abs=1e-4)
    assert episode_smoothness(trace, action, 10.0).jerk > 100
    assert episode_smoothness(EpisodeTrace(), action, 10.0).jerk is None


def test_one_command_tells_nothing():
    assert measure([[1, 1]]).seam_jump_ratio is None
