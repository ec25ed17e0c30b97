"""A robot is chosen by its name or by MODULE:FACTORY, and what is wrong with it is one line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import tinyvla
from clients.receiver_settings import read_settings
from clients.robots.base import Robot, RobotRequest
from clients.robots.make import ROBOTS, make_robot
from clients.robots.null import NullRobot
from policy.errors import UsageError
from policy.null import null_spec

REQUEST = RobotRequest("null", null_spec(cameras=("front",), action_dim=3, rate_hz=50.0))

# A robot that somebody else wrote: the module of its own, found in the current directory.
THEIRS = """
from clients.robots.null import NullRobot

def make(request):
    return NullRobot(cameras=request.cameras, periods=7)

def half(request):
    class Half:
        info = NullRobot().info
        def observe(self): ...
    return Half()

no_factory = 3
"""


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])  # what is appended to it goes again
    (tmp_path / "their_robot.py").write_text(THEIRS)
    (tmp_path / "broken_robot.py").write_text("import nowhere_to_be_found")
    monkeypatch.chdir(tmp_path)


def test_a_name_gives_a_robot_of_the_policys_shape():
    robot = make_robot("null", REQUEST)
    assert robot.info.cameras == ("front",)
    assert robot.info.control_rate_hz == 50.0
    assert len(robot.info.action_names) == 3


@pytest.mark.usefixtures("theirs")
def test_a_module_of_the_current_directory_gives_its_robot():
    robot: Robot = make_robot("their_robot:make", REQUEST)
    assert isinstance(robot, NullRobot)
    assert robot.info.cameras == ("front",)


@pytest.mark.usefixtures("theirs")
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("nobody", "there are metaworld, needle-rig, null"),
        ("their_robot:", "MODULE:FACTORY"),
        ("absent_robot:make", "cannot import absent_robot"),
        ("broken_robot:make", "nowhere_to_be_found"),
        ("their_robot:build", "their_robot has no function build"),
        ("their_robot:no_factory", "their_robot has no function no_factory"),
        ("their_robot:half", "Half lacks reset, act, hold, done, success, close"),
    ],
)
def test_a_robot_that_cannot_be_made_is_told_in_one_line(name: str, told: str):
    with pytest.raises(UsageError, match=told) as caught:
        make_robot(name, REQUEST)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_command_without_the_flag_does_not_name_it(capsys: pytest.CaptureFixture[str]):
    assert tinyvla.main(["check-robot", "nobody"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("tinyvla check-robot: robot nobody: there are ")
    assert "--" not in told


def test_the_receivers_help_names_every_robot(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        read_settings(["--help"])
    told = capsys.readouterr().out
    assert all(name in told for name in ROBOTS)
