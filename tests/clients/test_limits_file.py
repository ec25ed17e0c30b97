"""The limits file tightens what the policy's contract allows, and a mistake in it is one line."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from clients.limits_file import __doc__ as documented
from clients.limits_file import read_limits
from clients.safety_limits import SafetyLimits
from policy.errors import UsageError
from policy.null import null_spec

SPEC = null_spec(state_dim=3, action_dim=2)
BASE = SafetyLimits.of(SPEC.action)


def read(tmp_path: Path, text: str) -> SafetyLimits:
    path = tmp_path / "limits.toml"
    path.write_text(text)
    return read_limits(path, SPEC, BASE)


def test_an_empty_file_changes_nothing(tmp_path):
    read_back = read(tmp_path, "")
    for field in fields(SafetyLimits):
        np.testing.assert_array_equal(getattr(read_back, field.name), getattr(BASE, field.name))


def test_every_entry_reaches_its_limit(tmp_path):
    limits = read(
        tmp_path,
        """
        [action.a1]
        low = -0.5
        high = 0.25
        max_change = 0.4
        max_per_step = 0.3
        max_per_second = 20.0
        [workspace.s2]
        low = 0.04
        high = 0.45
        moved_by = "a1"
        scale = 0.01
        [stale_after]
        camera = 0.5
        state = 0.2
        sensor = inf
        plan = 2.0
        control = 0.05
        [respond]
        workspace = "stop"
        starved = "hold"
        """,
    )
    np.testing.assert_allclose(limits.low, [-1, -0.5])
    np.testing.assert_allclose(limits.high, [1, 0.25])
    np.testing.assert_allclose(limits.max_change, [np.inf, 0.4])
    np.testing.assert_allclose(limits.max_per_step, [np.inf, 0.3])
    np.testing.assert_allclose(limits.max_per_second, [np.inf, 20])
    box = limits.workspace
    assert box is not None
    assert (box.state.tolist(), box.action.tolist()) == ([2], [1])
    assert (box.low[0], box.high[0], box.scale[0]) == (0.04, 0.45, 0.01)
    times = (limits.stale_camera_s, limits.stale_state_s, limits.stale_sensor_s, limits.stale_plan_s)
    assert (*times, limits.watchdog_s) == (0.5, 0.2, float("inf"), 2.0, 0.05)
    assert limits.response("workspace") == "stop"
    assert limits.response("bounds") == "clamp"


def test_the_policys_own_bounds_are_never_widened(tmp_path):
    limits = read(tmp_path, "[action.a0]\nlow = -3.0\nhigh = 0.5")
    assert (limits.low[0], limits.high[0]) == (-1, 0.5)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[action.a0", "not TOML"),
        ("[action.elbow]\nlow = 0.0", "no 'elbow'; it has a0, a1"),
        ("[action.a0]\nspeed = 1.0", "action.a0.speed"),
        ("[action.a0]\nmax_change = 0.0", "greater than 0"),
        ("[action.a0]\nhigh = 'far'", "action.a0.high"),
        ("[action.a0]\nhigh = nan", "action.a0.high: expected a number"),
        ("[action.a0]\nlow = 0.5\nhigh = 0.2", "lies above high"),
        ("[action.a0]\nlow = 1.5", "bounds are -1 ... 1"),
        ("[workspace.s0]\nlow = 0.0\nhigh = 1.0\nscale = 1.0", "moved_by"),
        ("[workspace.s0]\nlow = 0.0\nhigh = 1.0\nscale = 1.0\nmoved_by = 'b'", "no 'b'"),
        ("[workspace.t]\nlow = 0.0\nhigh = 1.0\nscale = 1.0\nmoved_by = 'a0'", "no 't'; it has s0, s1, s2"),
        ("[workspace.s0]\nlow = 1.0\nhigh = 0.0\nscale = 1.0\nmoved_by = 'a0'", "not below"),
        ("[workspace.s0]\nlow = 0.0\nhigh = 1.0\nscale = 0.0\nmoved_by = 'a0'", "scale"),
        ("[stale_after]\ncamera = -1.0", "stale_after.camera"),
        ("[respond]\nbounds = 'shrug'", "respond.bounds"),
        ("[respond]\nnon_finite = 'clamp'", "expected hold or stop"),
        ("[respond]\nuncertain = 'hold'", "--on-uncertain"),
        ("[respond]\nsunshine = 'hold'", "respond.sunshine"),
        ("[speed]\nmax = 1.0", "speed"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_file_and_the_place(tmp_path, text, told):
    with pytest.raises(UsageError) as caught:
        read(tmp_path, text)
    message = str(caught.value)
    assert message.startswith(f"--limits {tmp_path / 'limits.toml'}: ")
    assert told in message
    assert "\n" not in message


def test_a_file_that_is_not_there_or_no_text_is_one_line_too(tmp_path):
    with pytest.raises(UsageError, match="No such file"):
        read_limits(tmp_path / "none.toml", SPEC, BASE)
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="not a text file"):
        read_limits(tmp_path / "bytes.toml", SPEC, BASE)


def test_the_documented_example_is_valid(tmp_path):
    assert documented is not None
    example = "\n".join(line[4:] for line in documented.splitlines() if line.startswith("    "))
    for ours, metaworld in {"a0": "hand_dx", "a1": "hand_dz", "s2": "hand_z"}.items():
        example = example.replace(metaworld, ours)
    assert "[workspace.s2]" in example
    limits = read(tmp_path, example)
    assert limits.workspace is not None
    assert limits.response("workspace") == "stop"
