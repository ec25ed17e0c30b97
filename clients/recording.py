"""`--save-data`: finished episodes to a LeRobotDataset v3.0, written on a thread of its own.

An episode is rendered from its replay after it has ended, so recording costs the control loop nothing, and
is on disk, whole, soon after; a kill loses at most the episodes that were still waiting.
"""

from __future__ import annotations

import io
import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
from PIL import Image

from clients.lerobot_v3 import DatasetFacts, EpisodeArrays, finalize_dataset, stage_episode
from clients.receiver import EpisodeOutcome
from clients.robots.base import Replayable, ReplayFrame, Robot, RobotInfo
from policy.errors import UsageError
from policy.spec import PolicySpec

# Control periods per recorded frame: what `tinyvla collect` stores, so that both train together.
FRAME_EVERY = 4
# As `tinyvla collect`: a policy must not learn to tell recordings from demonstrations by their artefacts.
JPEG_QUALITY = 95
# Rendered episodes that may wait for the writer: some 15 MB each at 128 pixels.
MAX_WAITING = 2


@dataclass(frozen=True)
class _Job:
    key: str
    instruction: str
    frames: Sequence[ReplayFrame]
    extra: dict[str, object]


class Recorder:
    """`with Recorder(root, spec) as recorder:` leaves a complete dataset at the end of the block.

    Raises:
        UsageError: the directory holds something already, or cannot be written.
    """

    def __init__(self, root: Path, spec: PolicySpec) -> None:
        self._root = root
        self._spec = spec
        try:
            root.mkdir(parents=True, exist_ok=True)
            taken = any(root.iterdir())
        except OSError as error:
            raise UsageError(f"--save-data {root}: {error.strerror or error}") from None
        if taken:
            raise UsageError(f"--save-data {root}: the directory is not empty; choose another")
        self._waiting: queue.Queue[_Job | None] = queue.Queue(MAX_WAITING)
        self._keys: list[str] = []
        self._facts: DatasetFacts | None = None
        self._failure: Exception | None = None
        self._writer = threading.Thread(target=self._write, name="recorder")

    def __enter__(self) -> Recorder:
        self._writer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._waiting.put(None)
        self._writer.join()
        self._raise_failure()
        if self._keys and self._facts is not None:
            finalize_dataset(self._root, self._keys, self._facts)

    def add(self, robot: Robot, outcome: EpisodeOutcome, instruction: str) -> None:
        """Record the episode that just ended; before the robot's next reset. Waits when the writer lags.

        Raises:
            UsageError: an earlier episode could not be written.
        """
        self._raise_failure()
        if not isinstance(robot, Replayable):
            raise UsageError(f"--save-data: {robot.info.name} cannot be replayed")
        # A last frame with fewer actions than the others does not fit the layout.
        frames = [f for f in robot.replay(FRAME_EVERY) if len(f.commands) == FRAME_EVERY]
        if not frames:
            return
        if self._facts is None:
            self._facts = _facts(robot.info, frames[0], outcome.control_rate_hz, self._spec)
        extra = {
            "task": outcome.task,
            "seed": outcome.seed,
            "success": outcome.success,
            "policy": self._spec.label,
            "chunk_policy": outcome.chunk_policy,
        }
        key = f"{outcome.task}-{len(self._keys):06d}"
        self._keys.append(key)
        self._waiting.put(_Job(key, instruction, frames, extra))

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise UsageError(f"--save-data {self._root}: {self._failure}") from self._failure

    def _write(self) -> None:
        while (job := self._waiting.get()) is not None:
            if self._failure is None:  # after a failure the queue is only emptied
                try:
                    stage_episode(self._root, job.key, _arrays(job))
                except Exception as error:
                    self._failure = error


def _arrays(job: _Job) -> EpisodeArrays:
    cameras = list(job.frames[0].images)
    return EpisodeArrays(
        task=job.instruction,
        images={camera: [_jpeg(frame.images[camera]) for frame in job.frames] for camera in cameras},
        state=np.stack([frame.state for frame in job.frames]).astype(np.float32),
        action=np.stack([frame.commands.reshape(-1) for frame in job.frames]).astype(np.float32),
        extra=job.extra,
    )


def _facts(info: RobotInfo, frame: ReplayFrame, control_rate_hz: float, spec: PolicySpec) -> DatasetFacts:
    return DatasetFacts(
        cameras={camera: (image.shape[0], image.shape[1]) for camera, image in frame.images.items()},
        state_names=info.state_names,
        action_names=info.action_names,
        fps=control_rate_hz / FRAME_EVERY,
        control_rate_hz=control_rate_hz,
        actions_per_frame=FRAME_EVERY,
        robot_type=info.name,
        free={"recorded_with": spec.label},
    )


def _jpeg(image: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(image).save(out, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return out.getvalue()
