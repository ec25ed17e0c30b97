"""Looks at the marked instants and pairs what was seen with the commands that followed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from clients.lerobot_v3 import encode_rgb
from clients.recording.journal import JournalFrame
from clients.recording.messages import Frame, Mark, RecordingCounts
from clients.robots.base import RobotObservation
from policy.spec import SensorSpec

# As `tinyvla collect`: a policy must not learn to tell recordings from demonstrations by their artefacts.
JPEG_QUALITY = 95


@dataclass(frozen=True)
class _Seen:
    """A frame whose commands are still to come."""

    mark: Mark
    observation: RobotObservation
    sizes: Mapping[str, tuple[int, int]]  # camera -> (height, width)
    files: dict[str, bytes]


class RecordingCamera:
    """Used by one thread.

    Args:
        counts: where a frame that cannot be used is counted.
        log: told about the first one of a kind.
    """

    def __init__(self, counts: RecordingCounts, log: Callable[[str], None]) -> None:
        self._counts, self._log = counts, log
        self._seen: _Seen | None = None
        self._sizes: Mapping[str, tuple[int, int]] | None = None  # of the pictures that are taken
        self._strays: Mapping[str, tuple[int, int]] | None = None  # of the newest one, where that was another
        self._told = False

    def take(self, mark: Mark) -> Frame | None:
        """The frame that this mark completes, if its own instant was seen and no mark is missing between.

        What was seen and is completed by none is counted: nobody knows its commands.
        """
        seen, self._seen = self._seen, None
        if mark.look is not None:
            self._seen = self._look(mark)
        if seen is None or mark.episode is not seen.mark.episode:
            return None
        if not _follows(mark, seen.mark):
            self._counts.unusable += 1
            return None
        state = np.asarray(seen.observation.state, np.float32)
        sensors = {
            spec.name: np.asarray(seen.observation.sensors.get(spec.name, _nothing(spec)), np.float16)
            for spec in mark.episode.sensors
        }
        frame = JournalFrame(seen.mark.period, seen.files, state, mark.commands, mark.held, sensors)
        return Frame(mark.episode, seen.sizes, frame)

    def _look(self, mark: Mark) -> _Seen | None:
        assert mark.look is not None
        try:
            observation = mark.look()
            if (wrong := _wrong_with(observation, mark)) is None and observation is not None:
                sizes = _sizes(observation)
                if (wrong := self._unusual(sizes)) is None:
                    files = {
                        name: encode_rgb(image, JPEG_QUALITY) for name, image in observation.images.items()
                    }
                    return _Seen(mark, observation, sizes, files)
        except Exception as error:  # a driver's, which the receiver meets too and tells in its own way
            wrong = f"{type(error).__name__}: {error}"
        self._counts.unusable += 1
        if not self._told:
            self._told = True
            self._log(f"recording: a frame is left out: {wrong}")
        return None

    def _unusual(self, sizes: Mapping[str, tuple[int, int]]) -> str | None:
        """What is wrong with pictures of another size; where the next ones have it too, it is the camera's now.

        The frame that is left out between ends a part, so each part has one size. `finish` decides between them.
        """
        known = self._sizes or sizes
        if sizes not in (known, self._strays):
            self._strays = sizes
            return f"its pictures are {dict(sizes)}, those before were {dict(known)}"
        self._sizes, self._strays = sizes, None
        return None


def _nothing(spec: SensorSpec) -> np.ndarray:
    return np.zeros((0, spec.channels), np.float16)


def _sizes(observation: RobotObservation) -> dict[str, tuple[int, int]]:
    return {name: (image.shape[0], image.shape[1]) for name, image in observation.images.items()}


def _wrong_with(observation: RobotObservation | None, mark: Mark) -> str | None:
    if observation is None:
        return "the robot has no observation yet"
    if missing := sorted(set(mark.episode.info.cameras) - set(observation.images)):
        return f"no image of {', '.join(missing)}"
    if np.shape(observation.state) != (length := len(mark.episode.info.state_names),):
        return f"its state is {list(np.shape(observation.state))}, its names are {length}"
    if not np.isfinite(observation.state).all():
        return "its state holds NaN or infinity"
    for spec in mark.episode.sensors:
        window = observation.sensors.get(spec.name)
        # Beyond what 16 bits hold counts as infinite.
        if window is not None and not (np.abs(window) <= np.finfo(np.float16).max).all():
            return f"{spec.name} holds NaN, infinity or more than 16 bits can"
    if mark.live and observation.captured_at - mark.at > mark.episode.frame_s:
        return "it was taken after the next frame's instant"
    return None


def _follows(mark: Mark, before: Mark) -> bool:
    """The episode's very next frame, and at its time: a real robot moves on while control is held up."""
    episode = mark.episode
    if mark.period != before.period + episode.every:
        return False
    return not mark.live or mark.at - before.at < 2 * episode.frame_s
