"""docs/add-a-robot.md: the robot on the page is checked, driven and recorded as the page says; bad ones are told."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tinyvla
from clients.lerobot_v3 import LeRobotDataset
from clients.realtime_receiver import main as receive
from clients.robots.base import RobotObservation
from clients.robots.check import checks
from clients.robots.null import NullRobot
from policy.null import NullPolicy, null_spec
from service.running import RunningServer

PAGE = Path(__file__).resolve().parents[2] / "docs" / "add-a-robot.md"


@pytest.fixture
def gantry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The page's code in the current directory, as its name for --robot."""
    [code] = re.findall(r"```python\n(# gantry\.py\n.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "gantry.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield "gantry:make"
    sys.modules.pop("gantry", None)


def test_the_robot_of_the_page_keeps_every_promise(gantry, capsys):
    assert tinyvla.main(["check-robot", gantry, "--act", "--seconds", "0.5"]) == 0
    out = capsys.readouterr().out
    assert out.count("ok    ") >= 12
    assert "BROKEN" not in out


def test_the_robot_of_the_page_is_driven_and_recorded(gantry, tmp_path):
    spec = null_spec(cameras=("above",), state_dim=2, action_dim=2, rate_hz=50.0, size=64)
    with RunningServer(lambda: NullPolicy(spec)) as server:
        flags = ["--robot", gantry, "--server", server.http_url, "--out", "run", "--plain", "--seed", "7"]
        assert receive([*flags, "--save-data", "data"]) == 0
    [episode] = json.loads((tmp_path / "run" / "report.json").read_text())["episodes"]
    assert episode["executed"] > 200
    dataset = LeRobotDataset(tmp_path / "data")
    assert dataset.num_frames > 50
    assert (dataset.facts.state_names, dataset.facts.robot_type) == (("x", "y"), "gantry")


def test_a_policy_for_another_robot_is_refused_before_anything_moves(gantry, capsys):
    with RunningServer(lambda: NullPolicy(null_spec(cameras=("above",), rate_hz=50.0))) as server:
        assert receive(["--robot", gantry, "--server", server.http_url]) == 2
    assert "state: expected [4]" in capsys.readouterr().err


class Broken(NullRobot):
    """Keeps its promises but for one."""

    def __init__(
        self, spoil: Callable[[RobotObservation], RobotObservation | None] = lambda seen: seen
    ) -> None:
        super().__init__(cameras=("a", "b"))
        self.spoil = spoil

    def observe(self) -> RobotObservation | None:
        seen = super().observe()
        assert seen is not None
        return self.spoil(seen)


class Slow(Broken):
    def hold(self, command: np.ndarray) -> None:
        super().hold(command)
        time.sleep(0.02)


class Counting(Broken):
    """Takes holding for an action."""

    hold = NullRobot.act  # type: ignore[assignment]


class Failing(Broken):
    def hold(self, command: np.ndarray) -> None:
        raise RuntimeError("controller lost")


class Reusing(Broken):
    """Hands out its own buffer."""

    buffer = np.zeros((16, 16, 3), np.uint8)

    def observe(self) -> RobotObservation | None:
        self.buffer[:] = len(self.commands) % 256
        seen = super().observe()
        assert seen is not None
        return replace(seen, images={"a": self.buffer, "b": self.buffer})


@pytest.mark.parametrize(
    ("robot", "told"),
    [
        (Broken(lambda seen: replace(seen, images={"a": seen.images["a"]})), "no image of b"),
        (Broken(lambda seen: replace(seen, images={n: i / 255 for n, i in seen.images.items()})), "a is float64"),
        (Broken(lambda seen: replace(seen, images=dict.fromkeys("ab", np.zeros((3, 8, 8), np.uint8)))), "[3, 8, 8]"),
        (Broken(lambda seen: replace(seen, state=seen.state[:3])), "shape [3] for 4"),
        (Broken(lambda seen: replace(seen, state=seen.state.astype(int))), "dtype int64"),
        (Broken(lambda seen: replace(seen, state=seen.state * np.nan)), "NaN"),
        (Broken(lambda seen: replace(seen, captured_at=time.time())), "s old"),
        (Broken(lambda seen: replace(seen, captured_at=seen.captured_at - 5)), "5.0"),
        (Broken(lambda seen: replace(seen, control_step=seen.control_step + 1)), "control_step is 1, not 0"),
        (Slow(), "it blocks control"),
        (Counting(), "counts no control step"),
        (Failing(), "controller lost"),
        (Reusing(), "hand out copies"),
    ],
)  # fmt: skip
def test_a_broken_promise_is_named(robot: Broken, told: str):
    found = [f"{what}: {wrong}" for what, wrong in checks(robot, 0.1) if wrong is not None]
    assert found
    assert told in " | ".join(found)


def test_a_robot_that_never_sees_anything_is_told(monkeypatch):
    monkeypatch.setattr("clients.robots.check.FIRST_WITHIN_S", 0.05)
    *_, (what, wrong) = checks(Broken(lambda seen: None), 0.1)
    assert (what, wrong) == ("observe: something within 10 s of reset", "still None")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"resting_command": np.zeros(3)}, "resting_command must be [4]"),
        ({"action_names": ("a", "b", "a", "c")}, "action_names repeats"),
        ({"control_rate_hz": 0.0}, "must be positive"),
        ({"action_kind": "torque"}, "'torque'"),
        ({"kept_on_hold": (4,)}, "kept_on_hold"),
    ],
)
def test_a_contradictory_description_is_told_before_the_robot_is_touched(change, told):
    robot = Broken(lambda seen: pytest.fail("it was looked at"))
    robot.info = replace(robot.info, **change)
    [(_, wrong)] = checks(robot, 0.1)
    assert told in str(wrong)
