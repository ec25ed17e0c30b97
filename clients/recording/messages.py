"""What the recorder's threads hand to each other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from clients.lerobot_v3 import DatasetFacts
from clients.recording.journal import JournalFrame
from clients.robots.base import RobotInfo, RobotObservation
from policy.spec import SensorSpec


@dataclass(frozen=True)
class RecordedEpisode:
    """One episode's fixed facts."""

    number: int  # within the recording
    info: RobotInfo
    instruction: str
    rate_hz: float  # commands per second
    every: int  # commands per frame
    extra: Mapping[str, Any]  # JSON-able, kept with the episode
    sensors: Sequence[SensorSpec]  # of the policy's, those that the robot has
    robot: Mapping[str, Any]  # JSON-able, kept with the dataset: what training has to know of the robot

    @property
    def frame_s(self) -> float:
        """Seconds from one frame to the next."""
        return self.every / self.rate_hz

    def facts(self, sizes: Mapping[str, tuple[int, int]]) -> DatasetFacts:
        """What a dataset of such episodes says of them all.

        Args:
            sizes: camera -> (height, width).

        Raises:
            ValueError: it has names that a dataset cannot have.
        """
        return DatasetFacts(
            cameras=sizes,
            state_names=self.info.state_names,
            action_names=self.info.action_names,
            fps=self.rate_hz / self.every,
            control_rate_hz=self.rate_hz,
            actions_per_frame=self.every,
            robot_type=self.info.name,
            free=self.robot,
        )


@dataclass(frozen=True)
class Mark:
    """A frame's instant, which is also the end of the frame before."""

    episode: RecordedEpisode
    period: int  # control periods since the reset
    at: float  # monotonic seconds
    live: bool  # the look shows the present, whenever it is made; else this instant
    look: Callable[[], RobotObservation | None] | None  # None after the last frame
    commands: np.ndarray  # float32 [every, A], of the frame before
    held: np.ndarray  # bool [every], likewise


@dataclass(frozen=True)
class Frame:
    """A frame with all its commands, ready for the journal."""

    episode: RecordedEpisode
    sizes: Mapping[str, tuple[int, int]]  # camera -> (height, width)
    frame: JournalFrame


@dataclass(frozen=True)
class Ending:
    """An episode came to its end."""

    how: Mapping[str, Any]  # JSON-able
    seen: threading.Event  # set when everything before it has been looked at


@dataclass
class RecordingCounts:
    """For the report and the view; each number has one writing thread."""

    frames: int = 0  # on disk
    parts: int = 0  # stretches without a gap
    skipped: int = 0  # not looked at: the camera thread was behind
    unusable: int = 0  # no observation, too late or not finite a one, or one whose commands are not known
    dropped: int = 0  # the disk was behind
    stopped: str | None = None  # why nothing is recorded any more

    @property
    def lost(self) -> int:
        return self.skipped + self.unusable + self.dropped

    def report(self) -> dict[str, Any]:
        """For report.json."""
        return {**asdict(self), "lost": self.lost}

    def shown(self) -> str:
        """A few words for the view."""
        if self.stopped is not None:
            return "stopped"
        return f"{self.frames} frames" + (f", {self.lost} lost" if self.lost else "")
