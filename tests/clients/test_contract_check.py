"""A policy and a robot that do not fit are told so before anything moves."""

from __future__ import annotations

from dataclasses import replace

import pytest

from clients.contract_check import check_robot
from clients.robots.null import NullRobot
from policy.errors import TinyVLAError
from policy.null import null_spec

SPEC = null_spec()
INFO = NullRobot().info


def test_what_fits_passes_without_a_word():
    assert check_robot(SPEC, INFO) == []


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"cameras": ("topview",)}, "images"),
        ({"state_names": ("s0", "s1", "s2")}, "state"),
        ({"state_names": ("s1", "s0", "s2", "s3")}, "state"),
        ({"action_names": ("a0", "a1", "a3", "a2")}, "action"),
        ({"action_names": ("a1", "a0", "a2", "gripper")}, "action"),
        ({"action_kind": "absolute"}, "action"),
        ({"control_rate_hz": 50.0}, "action.rate_hz"),
    ],
)
def test_what_does_not_fit_is_refused_by_field(change, field):
    with pytest.raises(TinyVLAError) as caught:
        check_robot(SPEC, replace(INFO, **change))
    assert (caught.value.code, caught.value.field) == ("contract_mismatch", field)


def test_other_names_of_the_same_number_are_a_warning():
    [warning] = check_robot(SPEC, replace(INFO, state_names=("x", "y", "z", "gripper")))
    assert "gripper" in warning


def test_a_rate_that_the_operator_chose_is_a_warning():
    [warning] = check_robot(SPEC, INFO, control_rate_hz=40.0)
    assert "40 Hz" in warning
