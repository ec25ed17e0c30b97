"""`python clients/realtime_receiver.py` as typed: runs, reports, records, and bad input in one line."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from clients import demo, session
from clients.demo import run, serving
from clients.episode import Episode
from clients.inprocess import InProcessClient
from clients.lerobot_v3 import LeRobotDataset
from clients.lerobot_v3.layout import JOURNALS_DIR
from clients.realtime_receiver import main
from clients.receiver import Receiver, ReceiverSettings
from clients.recording import Recorder
from clients.recording.journal import JournalWriter
from clients.robots.metaworld import MetaWorldRobot
from clients.robots.null import NullRobot
from clients.tapped_robot import TappedRobot
from policy.errors import UsageError
from policy.null import NullPolicy, null_spec
from service.running import RunningServer

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = str(ROOT / "clients" / "realtime_receiver.py")


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    spec = null_spec(cameras=("corner4", "topview"), size=64)
    with RunningServer(lambda: NullPolicy(spec, run_ms=20)) as running:
        yield running


def null_run(server: RunningServer, out: Path, *flags: str, url: str | None = None) -> int:
    quick = ["--robot", "null", "--control-rate", "240", "--inference-rate", "20", "--plain"]
    return main(["--server", url or server.http_url, *quick, "--out", str(out), *flags])


def commands_of(episode: dict) -> int:
    """All that the robot was sent: where this machine is busy, some of it by the watchdog and not by a tick."""
    return episode["executed"] + episode["waited"] + episode["held"]


@pytest.mark.parametrize("transport", ["http", "zmq"])
def test_a_run_leaves_a_report_and_a_picture(server, tmp_path, capsys, transport):
    url = server.http_url if transport == "http" else server.zmq_url
    assert null_run(server, tmp_path, "--episodes", "2", "--ddim-steps", "10", url=url) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["format"] == "tinyvla-realtime-report/1"
    assert [episode["seed"] for episode in report["episodes"]] == [1000, 1001]
    overall = report["overall"]
    assert (overall["episodes"], overall["successes"]) == (2, 2)
    assert overall["requests"]["accepted"] >= 4
    assert set(overall["stages"]["round_trip_ms"]) == {"count", "mean", "p50", "p95", "p99", "max"}
    for episode in report["episodes"]:
        assert commands_of(episode) == 160
    assert (tmp_path / "timeline.png").read_bytes().startswith(b"\x89PNG")
    assert "null 2/2: success after" in capsys.readouterr().out


def test_too_few_successes_are_an_exit_code(server, tmp_path, monkeypatch):
    monkeypatch.setattr("clients.robots.null.NullRobot.success", property(lambda self: False))
    assert null_run(server, tmp_path, "--require-success", "0.5") == 1
    assert null_run(server, tmp_path) == 0


@pytest.mark.parametrize(("successes", "drawn"), [((False, False, True, True), 2), ((False,) * 3, 0)])
def test_what_only_the_picture_needs_is_kept_of_one_episode_alone(
    server, tmp_path, monkeypatch, successes, drawn
):
    """Else a run of thousands of episodes would need gigabytes for it."""
    told, kept = iter(successes), []
    conclude = session._conclude

    def noted(settings, outcomes, *others):
        kept.extend((len(one.trace.steps) > 0, len(one.trace.frames) > 0) for one in outcomes)
        return conclude(settings, outcomes, *others)

    monkeypatch.setattr("clients.robots.null.NullRobot.success", property(lambda self: next(told)))
    monkeypatch.setattr("clients.session._conclude", noted)
    assert null_run(server, tmp_path, "--episodes", str(len(successes))) == 0
    assert kept == [(number == drawn,) * 2 for number in range(len(successes))]
    assert (tmp_path / "timeline.png").exists()


def test_a_place_that_cannot_be_written_is_told_before_the_robot_moves(server, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("clients.session.open_policy", lambda *_: pytest.fail("went on"))
    (tmp_path / "file").write_text("in the way")
    assert null_run(server, tmp_path / "file" / "out") == 2
    told = capsys.readouterr().err
    assert told.startswith("realtime_receiver: --out ")
    assert told.count("\n") == 1


def test_a_report_that_cannot_be_written_leaves_its_table_and_one_line(server, tmp_path, capsys):
    (tmp_path / "report.json").mkdir()
    assert null_run(server, tmp_path) == 2
    printed = capsys.readouterr()
    assert "control steps executed" in printed.out
    assert "no report" in printed.err
    assert printed.err.count("\n") == 1


def test_a_timeline_that_cannot_be_written_is_one_line(server, tmp_path, capsys):
    (tmp_path / "timeline.png").mkdir()
    assert null_run(server, tmp_path) == 0
    assert "no timeline" in capsys.readouterr().out
    assert (tmp_path / "report.json").is_file()


def test_a_report_that_cannot_be_written_does_not_hide_what_ended_the_run(
    server, tmp_path, capsys, monkeypatch
):
    def begin(self, title):
        if title.endswith("2/2"):
            raise RuntimeError("the robot is gone")

    monkeypatch.setattr("clients.session.Onlookers.begin", begin)
    (tmp_path / "report.json").mkdir()
    with pytest.raises(RuntimeError, match="the robot is gone"):
        null_run(server, tmp_path, "--episodes", "2")
    assert "no report" in capsys.readouterr().out


@pytest.mark.parametrize("policy", ["sync", "receding", "ensemble", "rtc"])
def test_every_chunk_policy_runs(server, tmp_path, policy):
    assert null_run(server, tmp_path, "--chunk-policy", policy) == 0
    assert json.loads((tmp_path / "report.json").read_text())["chunk_policy"] == policy


def bad_input(capsys, *flags: str) -> str:
    assert main(flags) == 2
    told = capsys.readouterr().err.strip()
    assert "\n" not in told
    assert told.startswith("realtime_receiver: ")
    return told


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--no-such-flag"], "--no-such-flag"),
        (["--episodes", "many"], "many"),
        (["--episodes", "0"], "--episodes: expected 1"),
        (["--inference-rate", "nan"], "--inference-rate"),
        (["--server", "localhost"], "http://HOST:PORT"),
        (["--chunk-policy", "greedy"], "greedy"),
        (["--checkpoint", "/nowhere"], "no policy bundle at /nowhere"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(capsys, flags, told):
    assert told in bad_input(capsys, *flags)


def test_bad_input_that_only_policy_or_robot_can_tell_is_one_line_too(capsys, server, tmp_path):
    at = ["--server", server.http_url, "--out", str(tmp_path)]
    assert "did you mean" in bad_input(capsys, *at, "--task", "reach-v9")
    assert "1 ... 100" in bad_input(capsys, *at, "--ddim-steps", "101")
    assert "not empty" in bad_input(capsys, *at, "--robot", "null", "--save-data", str(ROOT))
    assert "replayed" in bad_input(capsys, *at, "--robot", "null", "--video")


def test_a_film_that_cannot_be_made_is_told_before_the_robot_moves(capsys, server, tmp_path, monkeypatch):
    class Filmed(NullRobot):
        def replay(self, every, cameras=None, size=None):
            raise AssertionError

        def act(self, action):
            raise AssertionError

    module = types.ModuleType("filmed_robot")
    module.make = lambda request: Filmed(cameras=request.cameras)
    monkeypatch.setitem(sys.modules, "filmed_robot", module)
    monkeypatch.setitem(sys.modules, "av", None)
    flags = ["--server", server.http_url, "--out", str(tmp_path), "--robot", "filmed_robot:make", "--video"]
    told = bad_input(capsys, *flags)
    assert "--video" in told
    assert "'.[sim]'" in told


def test_no_server_is_one_line_that_says_how_to_start_one(capsys):
    told = bad_input(capsys, "--server", "http://127.0.0.1:1")
    assert "http://127.0.0.1:1" in told
    assert "tinyvla serve" in told


def test_metaworld_in_real_time_is_recorded_filmed_and_reported(server, tmp_path):
    """The script as typed, in a process of its own: clients/http.py must not hide the standard library's."""
    done = subprocess.run(
        [
            sys.executable, "clients/realtime_receiver.py", "--ddim-steps", "10", "--server", server.http_url,
            "--task", "reach", "--video", "--out", str(tmp_path / "run"),
            "--save-data", str(tmp_path / "data"),
        ],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    [episode] = report["episodes"]
    assert episode["task"] == "reach"
    assert episode["executed"] > 0
    assert (tmp_path / "run" / "timeline.png").stat().st_size > 10_000

    import av

    with av.open(str(tmp_path / "run" / "reach.mp4")) as film:
        frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    assert len(frames) == -(-commands_of(episode) // 4)
    assert frames[0].std() > 10  # a picture, not a blank

    assert LeRobotDataset(tmp_path / "data").num_frames > 10


@pytest.mark.parametrize(("flags", "seeds"), [((), [1_000_003, 1_000_004]), (("--seed", "7"), [7, 8])])
def test_a_recording_that_is_gone_on_with_gets_other_scenes(server, tmp_path, flags, seeds):
    """Three episodes of it were begun."""
    journals = tmp_path / "data" / JOURNALS_DIR
    journals.mkdir(parents=True)
    JournalWriter(journals / "000002-000.journal", {}).close()
    recorded = ["--save-data", str(tmp_path / "data"), "--instruction", "move", "--episodes", "2"]
    assert null_run(server, tmp_path / "run", *recorded, *flags) == 0
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert [episode["seed"] for episode in report["episodes"]] == seeds


def test_an_interrupted_run_ends_with_its_report(server, tmp_path):
    process = subprocess.Popen(
        [sys.executable, SCRIPT, "--server", server.http_url, "--robot", "null", "--episodes", "500",
         "--out", str(tmp_path)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    for line in process.stdout:
        if "success" in line:
            process.send_signal(signal.SIGTERM)
            break
    process.stdout.read()
    assert process.wait(60) == 130
    episodes = json.loads((tmp_path / "report.json").read_text())["episodes"]
    assert 1 <= len(episodes) < 500


def test_the_demo_serves_receives_and_stops(tmp_path, capsys):
    assert run(["--null"], ["--robot=null"], tmp_path) == 0
    assert (tmp_path / "report.json").exists()
    assert "ready" in (tmp_path / "server.log").read_text()


def test_ctrl_c_while_the_demo_s_server_starts_is_an_exit_code(tmp_path, monkeypatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("clients.demo.wait_until_ready", interrupted)
    assert demo.main(["--out", str(tmp_path)]) == 130


def test_a_server_that_cannot_start_is_told_with_its_last_words(tmp_path):
    with (
        pytest.raises(UsageError, match="no policy bundle"),
        serving(["--bundle", "/nowhere"], tmp_path / "log"),
    ):
        pass


def test_the_recorded_actions_are_those_that_were_commanded(tmp_path):
    spec = null_spec(cameras=("corner4",), size=64)
    robot = MetaWorldRobot("reach", cameras=("corner4",), size=64, keep_replay=True)
    try:
        interrupt = threading.Event()

        class Watcher:
            def watch(self, episode: Episode, elapsed_s: float) -> None:
                if episode.step > 60:
                    interrupt.set()

        client = InProcessClient(NullPolicy(spec))
        with Recorder(tmp_path, spec, print) as recorder:
            tapped = TappedRobot(robot, [recorder])
            receiver = Receiver(tapped, client, spec, ReceiverSettings(seed=1), interrupt=interrupt)
            recorder.ended(receiver.run_episode(5, session="s", watcher=Watcher()))
        sent = np.concatenate([frame.commands for frame in robot.replay(4)])
    finally:
        robot.close()
    parts = list(LeRobotDataset(tmp_path).episodes())
    assert sum(len(part) for part in parts) == recorder.counts.frames > 10
    for part in parts:  # several where this machine was too busy for a frame
        recorded, first = part.action.reshape(-1, 4), part.extra["first_period"]
        np.testing.assert_array_equal(recorded, sent[first : first + len(recorded)])


def test_the_token_comes_from_the_environment_and_is_never_shown(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TINYVLA_TOKEN", "hush-hush\n")  # as read from a file
    with RunningServer(lambda: NullPolicy(null_spec()), token="hush-hush") as guarded:
        assert null_run(guarded, tmp_path) == 0
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "hush-hush" not in capsys.readouterr().out
    assert "hush-hush" not in (tmp_path / "report.json").read_text()
