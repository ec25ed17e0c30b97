"""The receiver's flags for safety, uncertainty, pace and dry runs, as typed; and that robots are left still."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clients.realtime_receiver import main
from clients.receiver_settings import read_settings
from policy.null import NullPolicy, null_spec
from service.running import RunningServer
from trainer.evaluation.settings import EvaluateArgs

ROOT = Path(__file__).resolve().parents[2]
QUICK = ["--robot", "null", "--control-rate", "240", "--inference-rate", "20", "--plain"]


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with RunningServer(lambda: NullPolicy(null_spec(size=32))) as running:
        yield running


def report(server: RunningServer, out: Path, *flags: str) -> dict[str, Any]:
    assert main(["--server", server.http_url, *QUICK, "--out", str(out), *flags]) == 0
    episode: dict[str, Any] = json.loads((out / "report.json").read_text())["episodes"][0]
    return episode


def test_what_is_recorded_lies_far_from_the_scenes_of_evaluations(tmp_path):
    assert read_settings([]).first_seed == 1000
    recorded = ["--save-data", str(tmp_path / "data")]
    evaluated = EvaluateArgs(robot="needle-rig")
    assert read_settings(recorded).first_seed > evaluated.first_seed + 100_000
    assert read_settings([*recorded, "--seed", "5"]).first_seed == 5


def test_a_limits_file_is_kept_and_its_interventions_reported(server, tmp_path):
    (tmp_path / "limits.toml").write_text("[action.a0]\nmax_per_step = 0.25\n[stale_after]\nplan = 60.0")
    episode = report(server, tmp_path / "run", "--limits", str(tmp_path / "limits.toml"))
    assert episode["safety"]["max_per_step"]["steps"] > 10
    assert episode["stopped"] is None


def test_a_limit_that_stops_ends_the_episode_and_says_so(server, tmp_path, capsys):
    (tmp_path / "limits.toml").write_text(
        '[action.a0]\nmax_per_step = 0.001\n[respond]\nmax_per_step = "stop"\n[stale_after]\nplan = 60.0'
    )
    episode = report(server, tmp_path / "run", "--limits", str(tmp_path / "limits.toml"))
    assert episode["stopped"] == "max_per_step"
    assert not episode["success"]
    assert "safety: stopping (max_per_step)" in capsys.readouterr().out


def test_samples_are_measured_and_slow_the_robot_down(server, tmp_path):
    episode = report(server, tmp_path, "--samples", "4", "--on-uncertain", "slow", "--max-change", "1.0")
    assert episode["stages"]["uncertainty"]["count"] > 0
    assert episode["stages"]["uncertainty"]["p50"] > 0.3  # random chunks agree on nothing
    assert episode["safety"]["uncertain"]["steps"] > 10


def test_a_dry_run_plans_everything(server, tmp_path):
    episode = report(server, tmp_path, "--dry-run", "--adaptive")
    assert episode["executed"] > 10
    assert episode["requests"]["accepted"] > 2


def test_an_injected_delay_is_seen(server, tmp_path):
    episode = report(server, tmp_path, "--inject-delay", "60")
    assert episode["stages"]["round_trip_ms"]["p50"] >= 60


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--limits", "/nowhere.toml"], "--limits /nowhere.toml: No such file"),
        (["--samples", "0"], "--samples: expected 1"),
        (["--samples", "99"], "1 ... 32"),
        (["--on-uncertain", "slow"], "--samples 2"),
        (["--uncertainty-threshold", "-1"], "--uncertainty-threshold"),
        (["--uncertainty-threshold", "inf"], "--uncertainty-threshold: expected 0 ... 1000, got inf"),
        (["--inject-delay", "nan"], "--inject-delay"),
    ],
)
def test_a_mistake_is_one_line(server, capsys, flags, told):
    assert main(["--server", server.http_url, *QUICK, *flags]) == 2
    said = capsys.readouterr().err.strip()
    assert told in said
    assert "\n" not in said


def test_asking_needs_a_terminal(server, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", open(os.devnull))  # noqa: SIM115
    assert main(["--server", server.http_url, *QUICK, "--samples", "2", "--on-uncertain", "ask"]) == 2
    assert "terminal" in capsys.readouterr().err


def test_the_operator_is_asked_at_the_terminal_and_a_no_ends_the_episode(server, tmp_path):
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "clients/realtime_receiver.py", "--server", server.http_url, *QUICK, "--samples", "2",
         "--on-uncertain", "ask", "--uncertainty-threshold", "0.01", "--control-rate", "5", "--out", str(tmp_path)],
        cwd=ROOT, stdin=theirs, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    os.close(theirs)
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if "[y/n]" in line:
            os.write(ours, b"n\n")
    assert process.wait(60) == 0
    os.close(ours)
    assert any("go on? [y/n]" in line for line in said)
    assert json.loads((tmp_path / "report.json").read_text())["episodes"][0]["stopped"] == "uncertain"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_the_robot_standing_still(server, tmp_path, number):
    """A robot of the test's own says what it was last told, from its own process."""
    (tmp_path / "saying_robot.py").write_text(
        "import numpy as np\n"
        "from clients.robots.null import NullRobot\n"
        "class Robot(NullRobot):\n"
        "    def act(self, action):\n"
        "        super().act(action)\n"
        "        if len(self.executed) == 20: print('moving', flush=True)\n"
        "    def close(self):\n"
        "        print('last', np.abs(self.commands[-1][:3]).max(), len(self.executed), flush=True)\n"
        "def make(request):\n"
        "    return Robot(cameras=request.cameras, periods=10**9)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "clients/realtime_receiver.py", "--server", server.http_url, "--robot",
         "saying_robot:make", "--plain", "--out", str(tmp_path / "run")],
        cwd=ROOT, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if line.startswith("moving"):
            process.send_signal(number)
            process.send_signal(number)  # and once more, at once
    process.wait(60)
    [last] = [line.split() for line in said.splitlines() if line.startswith("last")]
    assert float(last[1]) == 0.0
    assert int(last[2]) >= 20
