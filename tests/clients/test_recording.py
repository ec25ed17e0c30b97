"""`--save-data`: recorded is what was seen and done, a slow or full disk holds nobody up, a kill loses a second."""

from __future__ import annotations

import contextlib
import importlib
import queue
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tinyvla
from clients.inprocess import InProcessClient
from clients.lerobot_v3 import EpisodeArrays, LeRobotDataset, decode_rgb
from clients.receiver import EpisodeOutcome, Receiver, ReceiverSettings
from clients.recording import Recorder, writer
from clients.recording.camera import RecordingCamera
from clients.recording.messages import Frame, Mark, RecordedEpisode, RecordingCounts
from clients.replay_robot import ReplayRobot
from clients.report import run_report, write_report
from clients.robots.base import RobotObservation
from clients.robots.null import NullRobot
from clients.tapped_robot import TappedRobot
from policy.errors import UsageError
from policy.null import NullPolicy, null_spec
from policy.spec import SensorSpec

ROOT = Path(__file__).resolve().parents[2]
SPEC = null_spec(cameras=("corner4",), size=16)


class CountingRobot(NullRobot):
    """Its picture and its first state number say which period it is; it can be looked at later, like a simulator."""

    def observe(self) -> RobotObservation:
        return self.look_later()()

    def look_later(self):
        period = len(self.commands)
        image = np.full((16, 16, 3), period % 250, np.uint8)
        state, at = np.float32([period, 0, 0, 0])[: len(self.state)], self._clock()
        return lambda: RobotObservation({"corner4": image}, state, len(self.executed), at)


class LiveRobot(CountingRobot):
    """The same with a camera, which shows the present only."""

    look_later = None  # type: ignore[assignment]

    def observe(self) -> RobotObservation:
        return CountingRobot.look_later(self)()


def drive(robot: TappedRobot, periods: int, *, seed: int = 0, hold: range = range(0)) -> np.ndarray:
    """Commands that are their own number, as fast as they come."""
    robot.reset(seed)
    scale = np.float32([1, 10, 0, 0])[: len(robot.info.action_names)]
    commands = np.arange(periods, dtype=np.float32)[:, None] * scale
    for period, command in enumerate(commands):
        (robot.hold if period in hold else robot.act)(command)
    return commands


def outcome(success: bool = True) -> EpisodeOutcome:
    """Of an episode of no length: the recorder reads little of it."""
    robot = NullRobot(periods=1, control_rate_hz=1000.0)
    done = Receiver(robot, InProcessClient(NullPolicy(SPEC)), SPEC, ReceiverSettings()).run_episode(
        0, session="s"
    )
    object.__setattr__(done, "success", success)
    return done


class Lines(list[str]):
    def told(self, text: str) -> str:
        [line] = [line for line in self if text in line]
        return line


@pytest.fixture
def lines() -> Lines:
    return Lines()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Queues that hold an episode driven without a clock."""
    monkeypatch.setattr("clients.recording.recorder.MARKS_WAITING_S", 1e6)
    monkeypatch.setattr("clients.recording.recorder.RENDERED_WAITING_S", 1e6)
    monkeypatch.setattr("clients.recording.recorder.FRAMES_WAITING_S", 1e6)


@pytest.mark.usefixtures("patient")
def test_every_frame_lies_with_its_own_commands(tmp_path, lines):
    with Recorder(tmp_path, SPEC, lines.append) as recorder:
        robot = TappedRobot(CountingRobot(), [recorder])
        commands = drive(robot, 83, seed=7, hold=range(20, 26))
        recorder.ended(outcome())
    assert (recorder.counts.frames, recorder.counts.parts, recorder.counts.lost) == (20, 1, 0)
    dataset = LeRobotDataset(tmp_path)
    assert (dataset.num_episodes, dataset.fps, dataset.facts.control_rate_hz) == (1, 20.0, 80.0)
    episode = dataset.episode(0)
    np.testing.assert_array_equal(episode.action.reshape(-1, 4), commands[:80])
    np.testing.assert_array_equal(episode.state[:, 0], np.arange(0, 80, 4))
    seen = [decode_rgb(image)[0, 0, 0] for image in episode.images["corner4"]]
    np.testing.assert_allclose(seen, np.arange(0, 80, 4), atol=1)
    told = {key: episode.extra[key] for key in ("task", "seed", "success", "interrupted", "held", "policy")}
    assert told == {
        "task": "null", "seed": 7, "success": True, "interrupted": False, "held": [[20, 6]], "policy": SPEC.label,
    }  # fmt: skip
    assert {path.name for path in tmp_path.iterdir()} == {"data", "meta"}


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("samples", [3, 9], ids=["apart", "overlapping"])  # a frame is 5 samples of 100 Hz
def test_sensor_windows_are_given_back_as_they_were_seen(tmp_path, lines, samples):
    """Samples are numbered: the newest of a window is the one of its period."""
    sensor = SensorSpec(name="force", channels=2, window=samples, rate_hz=100.0, units="N")

    class Feeling(CountingRobot):
        def look_later(self):
            seen = super().look_later()()
            newest = 5 * len(self.commands) // 4
            numbers = np.arange(newest - samples + 1, newest + 1, dtype=np.float32)
            if len(self.commands) == 20:
                return lambda: seen  # silent for once
            return lambda: replace(seen, sensors={"force": np.stack([numbers, -numbers], 1)})

    robot = Feeling()
    robot.info = replace(robot.info, sensors=("force",))
    spec = null_spec(cameras=("corner4",), size=16, sensors=(sensor,))
    with Recorder(tmp_path, spec, lines.append) as recorder:
        drive(TappedRobot(robot, [recorder]), 64)
        recorder.ended(outcome())
    dataset = LeRobotDataset(tmp_path)
    stream = dataset.episode(0).sensors["force"]
    for frame in range(dataset.num_frames):
        window = stream.window(frame, dataset.sensors["force"])
        newest = 5 * frame
        if 20 // 4 <= frame <= 6:  # silence, and what overlaps it
            assert window[:, 0].max(initial=-99) <= newest
        else:
            np.testing.assert_array_equal(window[:, 0], np.arange(newest - samples + 1, newest + 1))
            np.testing.assert_array_equal(window[:, 1], -window[:, 0])


@pytest.mark.usefixtures("patient")
def test_the_rate_and_the_instruction_asked_for_are_those_recorded(tmp_path, lines):
    with Recorder(tmp_path, SPEC, lines.append, instruction="go left", control_rate_hz=40.0) as recorder:
        drive(TappedRobot(CountingRobot(), [recorder]), 41)
        recorder.ended(outcome())
    dataset = LeRobotDataset(tmp_path)
    assert (dataset.facts.control_rate_hz, dataset.facts.actions_per_frame, dataset.tasks) == (
        40.0,
        2,
        ["go left"],
    )


@pytest.mark.usefixtures("patient")
def test_an_observation_that_is_not_finite_ends_a_part_and_the_next_goes_on(tmp_path, lines):
    class Flaky(CountingRobot):
        def look_later(self):
            look, period = super().look_later(), len(self.commands)

            def spoilt() -> RobotObservation:
                seen = look()
                if period == 24:
                    seen.state[1] = np.nan
                if period == 32:
                    raise RuntimeError("camera unplugged")
                return seen

            return spoilt

    with Recorder(tmp_path, SPEC, lines.append) as recorder:
        commands = drive(TappedRobot(Flaky(), [recorder]), 80)
        recorder.ended(outcome())
    assert recorder.counts.unusable == 2
    assert len([line for line in lines if "left out" in line]) == 1  # told once
    parts = list(LeRobotDataset(tmp_path).episodes())
    assert [part.extra["first_period"] for part in parts] == [0, 28, 36]
    recorded = [part.action.reshape(-1, 4) for part in parts]
    for part, rows in zip(parts, recorded, strict=True):
        first = part.extra["first_period"]
        np.testing.assert_array_equal(rows, commands[first : first + len(rows)])
    assert [len(rows) for rows in recorded] == [24, 4, 44]
    assert all(
        part.extra["success"] and "cut_off" not in part.extra for part in parts
    )  # how the episode ended
    assert "cut off" not in lines[-1]


@pytest.mark.usefixtures("patient")
def test_a_camera_that_is_missing_for_once_costs_that_frame_alone(tmp_path, lines):
    class TwoCameras(CountingRobot):
        def look_later(self):
            look, period = super().look_later(), len(self.commands)

            def seen() -> RobotObservation:
                both = dict.fromkeys(("corner4", "corner"), look().images["corner4"])
                if period == 24:
                    del both["corner"]
                return replace(look(), images=both)

            return seen

    robot = TwoCameras()
    robot.info = replace(robot.info, cameras=("corner4", "corner"))
    with Recorder(tmp_path, SPEC, lines.append) as recorder:
        drive(TappedRobot(robot, [recorder]), 80)
        recorder.ended(outcome())
    assert recorder.counts.unusable == 1
    lines.told("no image of corner")
    parts = list(LeRobotDataset(tmp_path).episodes())
    assert [part.extra["first_period"] for part in parts] == [0, 28]
    assert all(set(part.images) == {"corner4", "corner"} for part in parts)


@pytest.mark.usefixtures("patient")
def test_a_picture_of_another_size_costs_that_frame_alone(tmp_path, lines):
    class Resized(CountingRobot):
        def look_later(self):
            look, size = super().look_later(), 32 if len(self.commands) == 24 else 16
            return lambda: replace(look(), images={"corner4": np.zeros((size, size, 3), np.uint8)})

    with Recorder(tmp_path, SPEC, lines.append) as recorder:
        drive(TappedRobot(Resized(), [recorder]), 80)
        recorder.ended(outcome())
    assert recorder.counts.unusable == 1
    assert "{'corner4': (32, 32)}" in lines.told("a frame is left out")
    parts = list(LeRobotDataset(tmp_path).episodes())
    assert [(part.extra["first_period"], len(part)) for part in parts] == [(0, 6), (28, 13)]


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("unusual", [range(1), range(3), range(7)], ids=["one", "some", "a third"])
def test_a_camera_that_begins_with_pictures_of_another_size_costs_those_alone(tmp_path, lines, unusual):
    class Settling(CountingRobot):
        def look_later(self):
            look, frame = super().look_later(), len(self.commands) // 4
            shape = (
                (33, 17, 3) if frame in unusual else (15, 19, 3)
            )  # a dataset of pictures has no use for even sizes
            return lambda: replace(look(), images={"corner4": np.full(shape, 10 * frame, np.uint8)})

    with Recorder(tmp_path, SPEC, lines.append) as recorder:
        commands = drive(TappedRobot(Settling(), [recorder]), 80)
        recorder.ended(outcome())
    assert recorder.counts.unusable == 1  # the first one of the other size
    assert "they differ in cameras" in lines.told("recording: left out")
    dataset = LeRobotDataset(tmp_path)
    [part] = dataset.episodes()
    first = len(unusual) + 1
    assert dataset.facts.cameras == {"corner4": (15, 19)}
    assert (part.extra["first_period"], len(part)) == (4 * first, 20 - first)
    np.testing.assert_array_equal(part.action.reshape(-1, 4), commands[4 * first :])
    seen = [decode_rgb(image) for image in part.images["corner4"]]
    assert {picture.shape for picture in seen} == {(15, 19, 3)}
    np.testing.assert_allclose([p[0, 0, 0] for p in seen], 10 * np.arange(first, 20), atol=1)
    assert len(list(tmp_path.glob(".journals/*.left-out"))) == 1  # and not thrown away


@pytest.mark.usefixtures("patient")
def test_a_driver_that_answers_in_numpy_s_own_yes_and_no_is_recorded_and_reported(tmp_path, lines):
    """What a comparison of arrays gives, and neither MessagePack nor JSON takes."""

    class Near(CountingRobot):
        success = np.linalg.norm(np.zeros(3)) < 5.0  # type: ignore[assignment]

    assert isinstance(Near.success, np.bool_)
    client, settings = InProcessClient(NullPolicy(SPEC)), ReceiverSettings()
    with Recorder(tmp_path, SPEC, lines.append) as recorder:
        robot = TappedRobot(Near(periods=20), [recorder])
        for seed in range(2):
            done = Receiver(robot, client, SPEC, settings).run_episode(seed, session="s")
            recorder.ended(done)
            write_report(tmp_path.parent / "report.json", run_report([done], SPEC, {}))
    assert recorder.counts.stopped is None
    assert {episode.extra["success"] for episode in LeRobotDataset(tmp_path).episodes()} == {True}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"cameras": ("wrist/left",)}, "may not contain '/'"),
        ({"state_names": ()}, "no state"),
        ({"instruction": " "}, "--instruction"),
    ],
    ids=["camera", "state", "instruction"],
)
def test_a_robot_that_no_dataset_can_hold_is_refused_before_it_is_driven(tmp_path, lines, changes, told):
    robot = CountingRobot()
    robot.info = replace(robot.info, **changes)
    with Recorder(tmp_path, SPEC, lines.append) as recorder, pytest.raises(UsageError, match=told):
        TappedRobot(robot, [recorder]).reset(0)
    assert lines == ["recording: nothing was recorded"]


@pytest.mark.usefixtures("patient")
def test_whatever_stops_the_writer_is_told(tmp_path, lines, monkeypatch):
    def broken(self: writer.PartWriter, frame: Frame) -> None:
        raise ValueError("no such thing")

    monkeypatch.setattr(writer.PartWriter, "add", broken)
    with Recorder(tmp_path, SPEC, lines.append) as recorder:
        drive(TappedRobot(CountingRobot(), [recorder]), 16)
        recorder.ended(outcome())
    assert "ValueError: no such thing" in lines.told("recording stopped")
    assert recorder.counts.shown() == "stopped"
    assert lines[-1] == "recording: nothing was recorded"


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("usable", [0, 1])
def test_an_episode_that_is_left_out_decides_nothing_for_the_others(tmp_path, lines, monkeypatch, usable):
    finishing = importlib.import_module("clients.recording.finish")  # the package has a function of that name
    stage = finishing.stage_episode

    def staged(root: Path, key: str, episode: EpisodeArrays) -> Path:
        if key >= f"{2 - usable:06d}":
            return stage(root, key, episode)
        raise ValueError("unreadable")

    monkeypatch.setattr(finishing, "stage_episode", staged)
    with Recorder(tmp_path, SPEC, lines.append) as recorder:
        for dimensions in (3, 4):
            drive(TappedRobot(CountingRobot(action_dim=dimensions), [recorder]), 16)
            recorder.ended(outcome())
    assert len(list(tmp_path.glob(".journals/*.left-out"))) == 2 - usable
    if usable:
        assert LeRobotDataset(tmp_path).num_episodes == 1
    else:
        assert lines[-1] == "recording: nothing was recorded"


def test_a_mark_that_was_skipped_ends_the_frame_before_it():
    """The commands that come with a mark are those of the frame just before it, whichever was looked at last."""
    info = NullRobot().info
    episode = RecordedEpisode(0, info, "go", 80.0, 4, {}, (), {})
    counts = RecordingCounts()
    camera = RecordingCamera(counts, lambda line: None)

    def mark(
        period: int, of: RecordedEpisode = episode, *, live: bool = False, late_s: float = 0.0
    ) -> Frame | None:
        seen = RobotObservation({"corner4": np.zeros((8, 8, 3), np.uint8)}, np.zeros(4, np.float32), 0, 0.0)
        commands = np.full((4, 4), period, np.float32)
        return camera.take(
            Mark(of, period, period / 80 + late_s, live, lambda: seen, commands, np.zeros(4, bool))
        )

    assert mark(0) is None
    first = mark(4)
    assert first is not None
    assert (first.frame.period, first.frame.commands[0, 0]) == (0, 4)
    assert mark(12) is None  # 8 was skipped: nobody knows the commands of the frame at 4
    third = mark(16)
    assert third is not None
    assert third.frame.period == 12
    assert counts.unusable == 1  # the frame at 4; the one at 8 was counted where it was skipped
    assert mark(20, replace(episode, number=1)) is None  # of another episode
    assert mark(24, live=True) is None
    assert counts.unusable == 1  # the episode before had ended
    assert mark(28, live=True, late_s=0.2) is None  # a real robot moved on while control was held up
    assert counts.unusable == 2


def test_a_live_camera_that_is_looked_at_too_late_is_not_recorded_as_if_in_time(tmp_path, lines, patient):
    held_up = threading.Event()

    class Slow(LiveRobot):
        def observe(self) -> RobotObservation:
            if len(self.commands) == 4 * 10:
                assert held_up.wait(30)
            return super().observe()

    now = [0.0]
    clock = pytest.MonkeyPatch()
    clock.setattr("clients.recording.recorder.time.monotonic", lambda: now[0])
    try:
        with Recorder(tmp_path, SPEC, lines.append) as recorder:
            robot = TappedRobot(Slow(clock=lambda: now[0]), [recorder])
            robot.reset(0)
            for period in range(80):
                if period == 60:
                    held_up.set()
                robot.act(np.zeros(4, np.float32))
                now[0] += 1 / 80
                while period % 4 == 0 and period < 40 and recorder._marks.qsize():
                    threading.Event().wait(0.001)
            recorder.ended(outcome())
    finally:
        clock.undo()
    assert recorder.counts.unusable >= 2
    for part in LeRobotDataset(tmp_path).episodes():
        late = part.state[:, 0] - (part.extra["first_period"] + 4 * np.arange(len(part)))
        assert late.max() <= 4


def test_a_disk_that_hangs_loses_frames_and_holds_nobody_up(tmp_path, lines, monkeypatch):
    """The disk is freed by control itself: if control waited for it, this would never end."""
    freed = threading.Event()
    add = writer.PartWriter.add

    def slow(self: writer.PartWriter, frame: object) -> None:
        assert freed.wait(30)
        add(self, frame)  # type: ignore[arg-type]

    monkeypatch.setattr(writer.PartWriter, "add", slow)

    class Robot(CountingRobot):
        def act(self, action: np.ndarray) -> None:
            super().act(action)
            if len(self.commands) == 400:
                while recorder.counts.lost < 20:  # of 100 marks; the camera thread gets there
                    time.sleep(0.001)
                freed.set()

    with Recorder(tmp_path, SPEC, lines.append) as recorder:
        commands = drive(TappedRobot(Robot(), [recorder]), 480)
        assert recorder._frames.qsize() <= 10 + 1
        recorder.ended(outcome())
    assert recorder.counts.dropped >= 20
    assert f"{recorder.counts.lost} lost" in recorder.counts.shown()
    for part in LeRobotDataset(tmp_path).episodes():
        first, rows = part.extra["first_period"], part.action.reshape(-1, 4)
        np.testing.assert_array_equal(rows, commands[first : first + len(rows)])
        np.testing.assert_array_equal(part.state[:, 0], first + 4 * np.arange(len(part)))


@contextlib.contextmanager
def files_at_most(size: int) -> Iterator[None]:
    """What a full disk does to a writer, from the kernel itself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("patient")
def test_a_full_disk_stops_the_recording_in_one_line_and_the_robot_goes_on(tmp_path, lines, capsys):
    with files_at_most(6_000), Recorder(tmp_path, SPEC, lines.append) as recorder:
        robot = CountingRobot()
        drive(TappedRobot(robot, [recorder]), 400)
        recorder.ended(outcome())
        drive(TappedRobot(robot, [recorder]), 40, seed=1)
        recorder.ended(outcome())
    assert len(robot.commands) == 40
    assert "File too large" in lines.told("recording stopped")
    assert "tinyvla recover" in lines.told("make room")
    assert recorder.counts.shown() == "stopped"

    assert tinyvla.main(["recover", str(tmp_path)]) == 0
    [episode] = LeRobotDataset(tmp_path).episodes()
    assert len(episode) == recorder.counts.frames > 0
    assert f"{len(episode)} frames" in capsys.readouterr().out


def start(directory: Path) -> subprocess.Popen[str]:
    """A process that records a robot for ever and says which period it is in."""
    code = f"""
import sys
from pathlib import Path
from tests.clients.test_recording import *

class Saying(CountingRobot):
    def act(self, action):
        super().act(action)
        print(len(self.commands), flush=True)
    def hold(self, command):
        super().hold(command)
        print(len(self.commands), flush=True)

with Recorder(Path({str(directory)!r}), SPEC, lambda line: None) as recorder:
    robot = TappedRobot(Saying(periods=10**9), [recorder])
    client = InProcessClient(NullPolicy(SPEC))
    Receiver(robot, client, SPEC, ReceiverSettings()).run_episode(3, session="s")
"""
    return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def killed(tmp_path: Path) -> tuple[Path, int]:
    """A recording whose process was killed in the middle of an episode, and the periods it had got to."""
    process = start(tmp_path / "data")
    assert process.stdout is not None
    said = 0
    for line in process.stdout:
        said = int(line)
        if said >= 200:
            break
    process.send_signal(signal.SIGKILL)
    said = max([said, *(int(line) for line in process.stdout.read().splitlines())])
    assert process.wait(30) == -signal.SIGKILL
    return tmp_path / "data", said


def last_recorded(dataset: LeRobotDataset) -> int:
    """The period behind the last one recorded."""
    last = dataset.episode(dataset.num_episodes - 1)
    return last.extra["first_period"] + dataset.facts.actions_per_frame * len(last)


def test_a_kill_loses_at_most_the_last_second(killed, capsys):
    directory, said = killed
    assert tinyvla.main(["recover", str(directory)]) == 0
    assert "cut off" in capsys.readouterr().out
    dataset = LeRobotDataset(directory)
    assert said - 80 <= last_recorded(dataset) <= said
    assert all(episode.extra["cut_off"] for episode in dataset.episodes())
    assert tinyvla.main(["recover", str(directory)]) == 2  # nothing is left to do


def test_the_next_recording_goes_on_with_one_that_was_killed(killed, lines, patient):
    directory, said = killed
    with Recorder(directory, SPEC, lines.append) as recorder:
        drive(TappedRobot(CountingRobot(), [recorder]), 40)
        recorder.ended(outcome())
    assert "cut off after 1 episodes" in lines.told("going on")
    *before, after = LeRobotDataset(directory).episodes()
    assert sum(len(episode) for episode in before) >= (said - 80) // 4 - recorder.counts.lost
    assert (len(after), after.extra["success"]) == (10, True)


@pytest.mark.usefixtures("patient")
def test_a_recording_in_progress_is_left_alone(tmp_path, lines, capsys):
    with Recorder(tmp_path, SPEC, lines.append) as recorder:
        drive(TappedRobot(CountingRobot(), [recorder]), 40)
        with pytest.raises(UsageError, match="another process"):
            Recorder(tmp_path, SPEC, lines.append)
        assert tinyvla.main(["recover", str(tmp_path)]) == 2
        assert "another process" in capsys.readouterr().err
        recorder.ended(outcome())
    assert LeRobotDataset(tmp_path).num_episodes == 1


@pytest.mark.usefixtures("patient")
def test_finishing_may_be_killed_at_any_step(tmp_path, lines, monkeypatch):
    """A kill stands in for by an exception that nobody catches, at each file that is renamed or removed."""

    class Killed(BaseException):
        pass

    steps: list[int] = []

    def recorded(root: Path, kill_at: int) -> None:
        steps.clear()
        count = 0

        def counting(real):
            def step(*args, **options):
                nonlocal count
                count += 1
                if count == kill_at:
                    raise Killed
                return real(*args, **options)

            return step

        with monkeypatch.context() as patch:
            patch.setattr("clients.lerobot_v3.atomic.os.replace", counting(__import__("os").replace))
            patch.setattr(Path, "unlink", counting(Path.unlink))
            with contextlib.suppress(Killed), Recorder(root, SPEC, lines.append) as recorder:
                for seed in range(2):
                    drive(TappedRobot(CountingRobot(), [recorder]), 16, seed=seed)
                    recorder.ended(outcome())
        steps.append(count)

    recorded(tmp_path / "whole", 0)
    [total] = steps
    assert total > 8
    expected = [episode.action.tolist() for episode in LeRobotDataset(tmp_path / "whole").episodes()]
    for kill_at in range(1, total + 1):
        root = tmp_path / str(kill_at)
        recorded(root, kill_at)
        if (root / ".journals").is_dir():
            assert tinyvla.main(["recover", str(root)]) == 0
        assert [episode.action.tolist() for episode in LeRobotDataset(root).episodes()] == expected
        assert {path.name for path in root.iterdir()} == {"data", "meta"}


@pytest.mark.usefixtures("patient")
def test_a_robot_that_stands_elsewhere_at_each_reset_keeps_all_its_episodes(tmp_path, lines):
    class Absolute(CountingRobot):
        def reset(self, seed: int) -> None:
            super().reset(seed)
            self.info = replace(
                self.info, action_kind="absolute", resting_command=np.full(4, seed, np.float32)
            )

    with Recorder(tmp_path, SPEC, lines.append) as recorder:
        robot = TappedRobot(Absolute(), [recorder])
        for seed in (1, 2):
            drive(robot, 16, seed=seed)
            recorder.ended(outcome())
    dataset = LeRobotDataset(tmp_path)
    assert dataset.num_episodes == 2
    for number in range(2):
        resting = ReplayRobot(dataset, number, SPEC).info.resting_command
        np.testing.assert_array_equal(resting, np.full(4, number + 1))


@pytest.mark.usefixtures("patient")
def test_a_recording_of_another_robot_is_not_mixed_in(tmp_path, lines):
    with Recorder(tmp_path, SPEC, lines.append) as recorder:
        drive(TappedRobot(CountingRobot(), [recorder]), 16)
        recorder.ended(outcome())
        drive(TappedRobot(CountingRobot(action_dim=3), [recorder]), 16)
        recorder.ended(outcome())
    assert "another robot" in lines.told("they differ in action_names, kept_on_hold, state_names")
    assert LeRobotDataset(tmp_path).num_episodes == 1
    assert len(list(tmp_path.glob(".journals/*.left-out"))) == 1  # and not thrown away
    with pytest.raises(UsageError, match="a finished recording is there"):
        Recorder(tmp_path, SPEC, lines.append)  # what it records would have no place
    assert len(list(tmp_path.glob(".journals/*.left-out"))) == 1


def test_an_episode_without_a_frame_leaves_no_dataset_and_says_so(tmp_path, lines):
    with Recorder(tmp_path, SPEC, lines.append):
        pass
    assert lines == ["recording: nothing was recorded"]
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("blocked", ["a file", "somebody's directory", "a finished recording"])
def test_a_directory_that_will_not_do_is_told_before_anything_moves(tmp_path, lines, blocked, patient):
    root = tmp_path / "data"
    if blocked == "a file":
        root.write_text("x")
    elif blocked == "somebody's directory":
        root.mkdir()
        (root / "thesis.tex").write_text("x")
    else:
        with Recorder(root, SPEC, lines.append) as recorder:
            drive(TappedRobot(CountingRobot(), [recorder]), 16)
            recorder.ended(outcome())
    with pytest.raises(UsageError, match=str(root)):
        Recorder(root, SPEC, lines.append)


def test_observers_beside_the_receiver_wait_for_each_other():
    """A driver need not be ready for two threads."""
    inside, entered = threading.Semaphore(0), queue.Queue[str]()

    class Robot(NullRobot):
        def observe(self) -> RobotObservation | None:
            entered.put("in")
            assert inside.acquire(timeout=30)
            entered.put("out")
            return None

    robot = TappedRobot(Robot(), [])
    threads = [threading.Thread(target=look) for look in (robot.observe, robot.look)]
    for thread in threads:
        thread.start()
    order = []
    for _ in range(2):
        order.append(entered.get(timeout=30))
        assert entered.empty()
        inside.release()
        order.append(entered.get(timeout=30))
    for thread in threads:
        thread.join()
    assert order == ["in", "out", "in", "out"]
