"""`tinyvla replay`: recorded observations go in, and what comes out is compared period by period."""

from __future__ import annotations

import _thread
import json
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import tinyvla
from clients.inprocess import InProcessClient
from clients.lerobot_v3 import (
    DatasetFacts,
    EpisodeArrays,
    LeRobotDataset,
    SensorFacts,
    SensorStream,
    encode_rgb,
    finalize_dataset,
    stage_episode,
)
from clients.replay import ReplayArgs, replay
from clients.replay_errors import Replayed, dimension_errors
from clients.replay_robot import ReplayRobot
from policy.errors import TinyVLAError, UsageError
from policy.null import NullPolicy, null_spec
from policy.spec import SensorSpec
from service.running import RunningServer
from service.wire.messages import ActReply, ActRequest

SPEC = null_spec(cameras=("front",), size=16, horizon=24, max_prefix=16)
EVERY, FRAMES = 4, 30


def actions(number: int) -> np.ndarray:
    """Of an episode: smooth, within bounds, different in every dimension and episode."""
    time = np.arange(EVERY * FRAMES)[:, None] / 80
    return (0.5 * np.sin((1 + number + np.arange(4)) * time)).astype(np.float32)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two episodes whose state says which episode and period it is, the second with a hold in it."""
    root = tmp_path_factory.mktemp("recording")
    pictures = [encode_rgb(np.full((16, 16, 3), frame, np.uint8), quality=0) for frame in range(FRAMES)]
    for number, held in enumerate(([], [[40, 10]])):
        state = np.stack([np.full(FRAMES, number), EVERY * np.arange(FRAMES)], 1)
        episode = EpisodeArrays(
            task="wave",
            images={"front": pictures},
            state=np.pad(state, ((0, 0), (0, 2))).astype(np.float32),
            action=actions(number).reshape(FRAMES, -1),
            extra={"task": "wave", "held": held, "success": True},
        )
        stage_episode(root, f"e{number}", episode)
    facts = DatasetFacts(
        cameras={"front": (16, 16)},
        state_names=SPEC.state.names,
        action_names=SPEC.action.names,
        fps=20.0,
        control_rate_hz=80.0,
        actions_per_frame=EVERY,
    )
    finalize_dataset(root, ["e0", "e1"], facts)
    return root


class Oracle(InProcessClient):
    """Knows the recording by heart, and is off by `off` in one dimension."""

    def __init__(self, off: float = 0.0) -> None:
        super().__init__(NullPolicy(SPEC))
        self.off = off

    def act(self, request: ActRequest) -> ActReply:
        number, period = (int(value) for value in request.observation.state[:2])
        steps = np.minimum(period + np.arange(SPEC.horizon), EVERY * FRAMES - 1)
        chunk = actions(number)[steps] + np.float32([0, self.off, 0, 0])
        return replace(super().act(request), actions=chunk)


def played(root: Path, out: Path, client: InProcessClient, **flags: object) -> dict:
    args = ReplayArgs(dataset=root, out=out, **flags)  # type: ignore[arg-type]
    assert replay(args, LeRobotDataset(root), client) == 0
    return json.loads((out / "replay.json").read_text())


@pytest.mark.parametrize("flags", [{}, {"chunk_policy": "ensemble"}, {"inference_rate": 20.0}])
def test_a_policy_that_does_what_was_recorded_is_off_by_nothing(recording, tmp_path, flags):
    report = played(recording, tmp_path, Oracle(), **flags)
    for part in (report["overall"], *report["episodes"]):
        assert part["compared"] > 40
        assert [error["max_abs"] for error in part["dimensions"]] == pytest.approx([0.0] * 4, abs=1e-6)


def test_a_sensor_that_was_silent_when_it_was_recorded_makes_no_period_held(tmp_path):
    """The robot moved on without it then; where it did not, the recording says so."""
    sensor = SensorSpec(name="force", channels=1, window=4, rate_hz=100.0, units="N", optional=True)
    spec = null_spec(cameras=("front",), size=16, horizon=24, max_prefix=16, sensors=(sensor,))
    frame_times = np.arange(FRAMES) / 20
    silent = SensorStream(frame_times[:1], np.zeros((1, 1), np.float16), frame_times)  # after the first frame
    picture = encode_rgb(np.zeros((16, 16, 3), np.uint8), quality=0)
    episode = EpisodeArrays(
        task="wave",
        images={"front": [picture] * FRAMES},
        state=np.zeros((FRAMES, 4), np.float32),
        action=actions(0).reshape(FRAMES, -1),
        sensors={"force": silent},
    )
    root = tmp_path / "silent"
    stage_episode(root, "e0", episode)
    facts = DatasetFacts(
        cameras={"front": (16, 16)},
        state_names=spec.state.names,
        action_names=spec.action.names,
        fps=20.0,
        control_rate_hz=80.0,
        actions_per_frame=EVERY,
        free={"sensors": {"force": SensorFacts(1, 100.0, 4, "N").to_json()}},
    )
    finalize_dataset(root, ["e0"], facts)
    report = played(root, tmp_path, InProcessClient(NullPolicy(spec)))
    assert report["overall"]["compared"] == EVERY * FRAMES


def test_the_receivers_own_threads_come_to_nearly_the_same(recording, tmp_path):
    report = played(recording, tmp_path, Oracle(), realtime=True)
    # A busy machine holds a period or two, and is behind by as much until the next chunk.
    assert all(error["mean_abs"] < 0.05 for error in report["overall"]["dimensions"])
    assert report["overall"]["compared"] > 60


def test_an_error_is_told_in_its_dimension_and_unit(recording, tmp_path):
    report = played(recording, tmp_path, Oracle(off=0.125))
    first, second, *_ = report["overall"]["dimensions"]
    assert (first["name"], first["max_abs"]) == ("a0", pytest.approx(0, abs=1e-6))
    assert second["name"] == "a1"
    for what in ("mean_abs", "rms", "p95_abs", "max_abs", "bias"):
        assert second[what] == pytest.approx(0.125, rel=1e-4)
    assert second["share_of_range"] == pytest.approx(0.125 / 2, rel=1e-4)
    assert report["format"] == "tinyvla-replay/1"
    assert report["policy"] == SPEC.label


def test_periods_in_which_either_held_are_not_compared(recording, tmp_path):
    at_once = played(recording, tmp_path, Oracle())
    assert [episode["compared"] for episode in at_once["episodes"]] == [120, 110]
    late = played(recording, tmp_path, Oracle(), delay=100.0)  # 8 periods without a plan at the beginning
    assert [episode["compared"] for episode in late["episodes"]] == [112, 102]
    assert [episode["periods"] for episode in late["episodes"]] == [120, 120]


def test_the_same_command_gives_the_same_numbers(recording, tmp_path):
    client = InProcessClient(NullPolicy(SPEC))
    runs = [played(recording, tmp_path, client, episode=(1,), seed=3)["episodes"] for _ in range(2)]
    assert runs[0] == runs[1]
    assert runs[0] != played(recording, tmp_path, client, episode=(1,), seed=4)["episodes"]


class CtrlC(Oracle):
    """While chunk number `at` is asked for, somebody presses it."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.left = at

    def act(self, request: ActRequest) -> ActReply:
        self.left -= 1
        if self.left == 0:
            _thread.interrupt_main()
        return super().act(request)


def interrupted(root: Path, out: Path, client: InProcessClient, **flags: object) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        assert replay(ReplayArgs(dataset=root, out=out, **flags), LeRobotDataset(root), client) == 130  # type: ignore[arg-type]
    finally:
        signal.signal(signal.SIGINT, before)


def test_ctrl_c_in_real_time_ends_it_and_what_was_played_is_written(recording, tmp_path):
    interrupted(recording, tmp_path, CtrlC(at=3), realtime=True)
    [episode] = json.loads((tmp_path / "replay.json").read_text())["episodes"]
    assert episode["episode"] == 0
    assert 0 < episode["periods"] < EVERY * FRAMES


def test_ctrl_c_in_simulated_time_leaves_the_episodes_before_it(recording, tmp_path):
    interrupted(recording, tmp_path / "second", CtrlC(at=10))  # 120 periods at 80 Hz are 8 chunks at 5 Hz
    [episode] = json.loads((tmp_path / "second" / "replay.json").read_text())["episodes"]
    assert (episode["episode"], episode["periods"]) == (0, EVERY * FRAMES)
    interrupted(recording, tmp_path / "first", CtrlC(at=1))
    assert not (tmp_path / "first").exists()


def test_an_episode_that_ends_before_its_first_period_is_compared_as_nothing(
    recording, tmp_path, monkeypatch
):
    at_once = SimpleNamespace(run_episode=lambda seed, session: SimpleNamespace(interrupted=True))
    monkeypatch.setattr("clients.replay.Receiver", lambda *arguments: at_once)
    interrupted(recording, tmp_path, Oracle(), realtime=True)
    [episode] = json.loads((tmp_path / "replay.json").read_text())["episodes"]
    assert (episode["periods"], episode["dimensions"][0]["mean_abs"]) == (0, None)


def test_a_recording_at_another_rate_is_told_without_a_flag_that_replay_lacks(recording, tmp_path):
    slow = null_spec(cameras=("front",), size=16, rate_hz=40.0)
    with pytest.raises(TinyVLAError, match="at its own rate") as caught:
        played(recording, tmp_path, InProcessClient(NullPolicy(slow)))
    assert "40 Hz" in str(caught.value)
    assert "--control-rate" not in str(caught.value)


def test_a_frame_is_shown_from_its_own_period_on_and_never_before(recording):
    robot = ReplayRobot(LeRobotDataset(recording), 0, SPEC, clock=lambda: 100.0)
    for period in range(9):
        seen = robot.observe()
        assert seen is not None
        assert seen.state[1] == 4 * (period // 4)
        assert seen.captured_at == pytest.approx(100.0 + (period // 4) * 4 / 80)
        # Holding consumes no action: the frame at period 8 was seen after 7 of them.
        assert seen.control_step == {0: 0, 1: 4, 2: 7}[period // 4]
        if period == 6:
            robot.hold(np.zeros(4))
        else:
            robot.act(np.zeros(4))


def test_a_policy_that_continues_no_prefix_is_not_asked_to(recording, tmp_path):
    spec = SPEC.model_copy(update={"max_prefix": 0})
    client = InProcessClient(NullPolicy(spec))
    with pytest.raises(UsageError, match="--chunk-policy rtc: this policy was not trained"):
        played(recording, tmp_path, client, chunk_policy="rtc")


def test_nothing_to_compare_is_told_as_nothing():
    nothing = Replayed(0, "wave", np.zeros((5, 4)), np.zeros((5, 4)), np.zeros(5, bool))
    assert {error.mean_abs for error in dimension_errors([nothing], SPEC.action)} == {None}


def test_the_command_asks_any_server_and_shows_a_table(recording, tmp_path, capsys):
    with RunningServer(lambda: NullPolicy(SPEC)) as server:
        flags = ["--server", server.zmq_url, "--episode", "1", "--out", str(tmp_path)]
        assert tinyvla.main(["replay", str(recording), *flags]) == 0
    out = capsys.readouterr().out
    assert "commanded less recorded" in out
    assert "a3" in out
    [episode] = json.loads((tmp_path / "replay.json").read_text())["episodes"]
    assert episode["episode"] == 1


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ([], "LeRobotDataset"),
        (["{root}/nowhere"], "no such dataset"),
        (["{root}", "--episode", "2"], "0 ... 1"),
        (["{root}", "--inference-rate", "0"], "--inference-rate"),
        (["{root}", "--realtime", "--delay", "5"], "simulated time"),
        (["{root}", "--out", "/dev/null/out"], "--out /dev/null/out: cannot be written"),
        (["{root}", "--server", "http://127.0.0.1:1"], "no policy server answers"),
        (["{root}", "--checkpoint", "/nowhere"], "no policy bundle"),
        (["{root}", "--server", "{server}"], "cameras corner4"),
    ],
)
def test_bad_input_is_one_line(recording, capsys, flags, told):
    with RunningServer(lambda: NullPolicy(null_spec(cameras=("corner4",)))) as server:
        argv = [flag.format(root=recording, server=server.http_url) for flag in flags]
        assert tinyvla.main(["replay", *argv]) == 2
    error = capsys.readouterr().err.strip()
    assert told in error
    assert "\n" not in error
