"""Holding is no motion, and a gripper keeps what it holds."""

from __future__ import annotations

import numpy as np
import pytest

from clients.hold import hold_action

LAST = np.array([0.3, -0.2, 0.1, 0.8], np.float32)


@pytest.mark.parametrize("kind", ["delta", "velocity"])
def test_motion_stops_and_the_gripper_keeps_its_command(kind):
    np.testing.assert_array_equal(hold_action(kind, LAST, kept=(3,)), np.float32([0, 0, 0, 0.8]))


def test_an_absolute_target_stays():
    np.testing.assert_array_equal(hold_action("absolute", LAST), LAST)


def test_holding_again_changes_nothing():
    once = hold_action("delta", LAST, kept=(3,))
    np.testing.assert_array_equal(hold_action("delta", once, kept=(3,)), once)
