"""Holding fades the last motion out within a few periods, and a gripper keeps what it holds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.hold import FADE_S, fade, hold_action

LAST = np.array([0.3, -0.2, 0.1, 0.8], np.float32)


@pytest.mark.parametrize("kind", ["delta", "velocity"])
def test_motion_stops_and_the_gripper_keeps_its_command(kind):
    np.testing.assert_array_equal(hold_action(kind, LAST, kept=(3,)), np.float32([0, 0, 0, 0.8]))


def test_an_absolute_target_stays_whatever_the_fade():
    np.testing.assert_array_equal(hold_action("absolute", LAST, share=0.5), LAST)


@given(held=st.floats(0, 1), longer=st.floats(0, 1))
def test_the_fade_only_ever_shrinks_the_motion_and_ends(held, longer):
    assert 0 <= fade(held + longer) <= fade(held) <= 1
    assert fade(FADE_S + held) == 0


@pytest.mark.parametrize("rate", [5.0, 20.0, 80.0, 500.0])
def test_fading_adds_no_more_than_a_sixtieth_of_a_second_of_the_last_motion(rate):
    added = sum(fade(period / rate) / rate for period in range(1, 100))
    assert added <= 1 / 60


def test_a_faded_motion_keeps_its_direction_and_its_gripper():
    held = hold_action("delta", LAST, kept=(3,), share=0.25)
    np.testing.assert_allclose(held, [0.075, -0.05, 0.025, 0.8], rtol=1e-6)
