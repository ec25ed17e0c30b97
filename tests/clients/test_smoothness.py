"""Seams and jerk, on motions whose figures are known."""

from __future__ import annotations

import numpy as np
import pytest

from clients.smoothness import smoothness

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


def test_one_command_tells_nothing():
    assert measure([[1, 1]]).seam_jump_ratio is None
