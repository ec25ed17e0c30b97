"""The recorder itself: a `Tap` of the robot, the two threads behind it, and the dataset at the end."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import numpy as np

from clients.lerobot_v3 import SensorFacts, is_complete
from clients.lerobot_v3.layout import JOURNALS_DIR
from clients.receiver import EpisodeOutcome
from clients.recording.camera import RecordingCamera
from clients.recording.finish import claim, finish, journals
from clients.recording.messages import Ending, Frame, Mark, RecordedEpisode, RecordingCounts
from clients.recording.writer import PartWriter
from clients.robots.base import Rendered, RobotObservation
from clients.tapped_robot import TappedRobot
from policy.errors import UsageError
from policy.spec import PolicySpec

# Seconds of frames that may wait for the camera thread and for the disk; with the frame under way less than one.
MARKS_WAITING_S, FRAMES_WAITING_S = 0.25, 0.5
# For a simulator, whose instants wait without growing old; only a machine too slow to render them gets there.
RENDERED_WAITING_S = 5.0
# For a disk that hangs when the run ends, and for what is still to be rendered when an episode does.
STOP_WITHIN_S = 30.0


class Recorder:
    """`with Recorder(root, spec, log) as recorder:` leaves a complete dataset at the end of the block.

    Args:
        root: of the dataset; holds nothing yet, or a recording that was cut off, which is gone on with.
        spec: of the policy that drives.
        log: told a line now and then, from any thread.
        instruction: what the policy is told; None is the robot's own.
        control_rate_hz: commands per second; None is the robot's own.

    Raises:
        UsageError: the directory holds something else, is in use, or cannot be written.
    """

    def __init__(
        self,
        root: Path,
        spec: PolicySpec,
        log: Callable[[str], None],
        *,
        instruction: str | None = None,
        control_rate_hz: float | None = None,
    ) -> None:
        self.counts = RecordingCounts()
        self._root, self._spec, self._log = root, spec, log
        self._instruction, self._rate = instruction, control_rate_hz
        self._claim = claim(root)
        if is_complete(root):
            with contextlib.closing(self._claim):
                finish(root, log)  # the rest of it, where an earlier one was killed while it cleaned up
            raise UsageError(f"{root}: a finished recording is there; choose another directory")
        begun = journals(root)
        self._next = 1 + max((int(path.stem.partition("-")[0]) for path in begun), default=-1)
        self.begun_before = self._next  # episodes of the recording that is gone on with
        if begun:
            log(f"recording: {root} was cut off after {self._next} episodes; going on with it")
        self._robot: TappedRobot | None = None
        self._episode: RecordedEpisode | None = None
        self._period = 0
        self._commands, self._held = np.zeros((1, 1), np.float32), np.zeros(1, bool)
        # Bounded by who puts, since what is a second depends on the robot's rate.
        self._marks: queue.Queue[Mark | Ending | None] = queue.Queue()
        self._frames: queue.Queue[Frame | Ending | None] = queue.Queue()
        self._threads = [
            threading.Thread(target=self._see, name="recorder-camera", daemon=True),
            threading.Thread(target=self._write, name="recorder-writer", daemon=True),
        ]

    def __enter__(self) -> Recorder:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._marks.put(None)
        until = time.monotonic() + STOP_WITHIN_S
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        later = f"`tinyvla recover {self._root}` finishes the dataset"
        with contextlib.closing(self._claim):
            if any(thread.is_alive() for thread in self._threads):
                self._log(f"recording: the disk does not answer; {later} when it does")
                return
            try:
                finish(self._root, self._log)
            except UsageError as problem:  # what was recorded stays, and the run still wants its report
                self._log(f"recording: {problem}; then {later}")

    def began(self, robot: TappedRobot, seed: int) -> None:
        """An episode begins.

        Raises:
            UsageError: a dataset cannot hold what this robot has.
        """
        info = robot.info
        rate = self._rate or info.control_rate_hz
        every = max(1, round(rate / info.frame_rate_hz))
        extra = {
            "task": info.task,
            "seed": seed,
            "policy": self._spec.label,
            # Of absolute targets where the robot stood, so each episode has its own.
            "resting_command": [float(value) for value in info.resting_command],
        }
        self._commands = np.zeros((every, len(info.action_names)), np.float32)
        self._held = np.zeros(every, bool)
        self._robot, self._period = robot, 0
        sensors = [spec for spec in self._spec.sensors if spec.name in info.sensors]
        told = {
            "sensors": {
                s.name: SensorFacts(s.channels, s.rate_hz, s.window, s.units).to_json() for s in sensors
            },
            "action_kind": info.action_kind,
            "kept_on_hold": list(info.kept_on_hold),
            "action_units": list(self._spec.action.units),
            "state_units": list(self._spec.state.units),
        }
        episode = RecordedEpisode(
            self._next, info, self._instruction or info.instruction, rate, every, extra, sensors, told
        )
        _check(episode)
        self._episode = episode
        self._next += 1

    def commanded(self, command: np.ndarray, held: bool) -> None:
        """A control period's command; never waits."""
        if self._episode is None:
            return
        place = self._period % self._episode.every
        if place == 0:
            self._mark(self._episode, last=False)
        self._commands[place], self._held[place] = command, held
        self._period += 1

    def observed(self, observation: RobotObservation) -> None:
        """Nothing: recorded are frames at a fixed rate, not what happened to be asked for."""

    def ended(self, outcome: EpisodeOutcome) -> None:
        """The episode is over, its threads too; returns when all of it has been looked at: before the next reset."""
        episode, self._episode = self._episode, None
        if episode is None:
            return
        if self._period % episode.every == 0:  # else the last frame has fewer commands than the others
            self._mark(episode, last=True)
        how = {"success": outcome.success, "interrupted": outcome.interrupted}
        ending = Ending(how | {"chunk_policy": outcome.chunk_policy}, threading.Event())
        self._marks.put(ending)
        ending.seen.wait(STOP_WITHIN_S)

    def _mark(self, episode: RecordedEpisode, *, last: bool) -> None:
        if self.counts.stopped is not None:
            return
        assert self._robot is not None
        rendered = isinstance(self._robot, Rendered)
        waiting_s = RENDERED_WAITING_S if rendered else MARKS_WAITING_S
        if not last and self._marks.qsize() >= _places(waiting_s, episode):
            self.counts.skipped += 1
            return
        look = self._robot.look_later() if isinstance(self._robot, Rendered) else self._robot.look
        now, commands, held = time.monotonic(), self._commands.copy(), self._held.copy()
        self._marks.put(
            Mark(episode, self._period, now, not rendered, None if last else look, commands, held)
        )

    def _see(self) -> None:
        camera = RecordingCamera(self.counts, self._log)
        while (item := self._marks.get()) is not None:
            if isinstance(item, Ending):
                self._frames.put(item)
                item.seen.set()
            elif (frame := camera.take(item)) is not None:
                if self._frames.qsize() < _places(FRAMES_WAITING_S, frame.episode):
                    self._frames.put(frame)
                else:
                    self.counts.dropped += 1
        self._frames.put(None)

    def _write(self) -> None:
        writer = PartWriter(self._root / JOURNALS_DIR, self.counts)
        while (item := self._frames.get()) is not None:
            if self.counts.stopped is not None:
                continue
            try:
                if isinstance(item, Ending):
                    writer.end(item)
                else:
                    writer.add(item)
            except Exception as error:  # whatever it is: a thread that died silently would record nothing
                self.counts.stopped = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
                self._log(
                    f"recording stopped after {self.counts.frames} frames ({self.counts.stopped}); "
                    "control goes on"
                )
        writer.close()


def _check(episode: RecordedEpisode) -> None:
    try:
        if not episode.info.state_names:
            raise ValueError("it has no state")
        if not episode.instruction.strip():
            raise ValueError("it has no instruction, which a dataset needs; give one with --instruction")
        episode.facts(dict.fromkeys(episode.info.cameras, (1, 1)))  # the pictures' size is not known yet
    except ValueError as error:
        raise UsageError(f"the robot {episode.info.name!r} cannot be recorded: {error}") from None


def _places(seconds: float, episode: RecordedEpisode) -> int:
    return max(2, round(seconds / episode.frame_s))
