"""A dataset decoded once into memory-mapped arrays, so that training never waits for JPEG or parquet.

The cache lies beside the dataset under `.cache/<hash>`; it is built into a temporary directory and renamed, so a
killed build leaves nothing that looks complete. Of several runs that find it missing, one builds and the others wait.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import io
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import track

from clients.lerobot_v3 import LeRobotDataset, SensorFacts, SensorStream
from clients.lerobot_v3.atomic import writable
from policy.errors import UsageError
from policy.preprocess import fit_image
from policy.spec import CameraSpec

_FORMAT = b"2"  # of the cache's own files


@dataclass(frozen=True)
class FrameCache:
    """All frames of a dataset, episode after episode."""

    images: np.ndarray  # uint8 [N, V, H, W, 3], memory-mapped
    state: np.ndarray  # float32 [N, D]
    environment_state: np.ndarray  # float32 [N, E]; E = 0 without privileged values
    actions: np.ndarray  # float32 [N * actions_per_frame, A], at the control rate, as demonstrated
    executed: np.ndarray  # the same shape: what the robot did instead, pushed or driven by somebody else
    episode_starts: np.ndarray  # int64 [episodes + 1], first frame of each episode, then N
    demonstrated_from: np.ndarray  # int64 [episodes], actions of each episode before its demonstration begins
    tasks: tuple[str, ...]  # instruction of each episode
    task_names: tuple[str, ...]  # short task name of each episode
    actions_per_frame: int
    sensors: Mapping[str, SensorFacts] = field(default_factory=dict)
    streams: tuple[
        Mapping[str, SensorStream], ...
    ] = ()  # of each episode, memory-mapped; empty without sensors

    @property
    def num_frames(self) -> int:
        return len(self.state)

    @property
    def num_episodes(self) -> int:
        return len(self.episode_starts) - 1


def _cache_key(dataset: LeRobotDataset, cameras: tuple[CameraSpec, ...]) -> str:
    info = (dataset.root / "meta" / "info.json").read_bytes()
    stats = (dataset.root / "meta" / "stats.json").read_bytes()
    views = json.dumps([camera.model_dump() for camera in cameras])
    return hashlib.sha256(_FORMAT + info + stats + views.encode()).hexdigest()[:16]


def open_cache(dataset: LeRobotDataset, cameras: tuple[CameraSpec, ...]) -> FrameCache:
    """The decoded cache of a dataset for these cameras; built when it is not there yet.

    Raises:
        UsageError: nothing to decode, a damaged image, no permission to write it, or no room on the disk.
    """
    directory = dataset.root / ".cache" / _cache_key(dataset, cameras)
    written = directory / "index.json"
    if not written.exists():
        with _only_builder(directory, dataset.root.name):
            if not written.exists():
                _build(dataset, cameras, directory)
    index = json.loads(written.read_text())
    # What is said of an episode may be corrected, and its frames stay the same: asked of the dataset every time.
    numbers = range(dataset.num_episodes)
    tasks, extra = [dataset.task_of(n) for n in numbers], [dataset.extra_of(n) for n in numbers]
    names = [
        told.get("metaworld_task", told.get("task", task)) for told, task in zip(extra, tasks, strict=True)
    ]
    return FrameCache(
        images=np.load(directory / "images.npy", mmap_mode="r"),
        state=np.load(directory / "state.npy"),
        environment_state=np.load(directory / "environment_state.npy"),
        actions=np.load(directory / "actions.npy"),
        executed=np.load(directory / "executed.npy"),
        episode_starts=np.asarray(index["episode_starts"], np.int64),
        demonstrated_from=np.asarray([told.get("demonstrated_from", 0) for told in extra], np.int64),
        tasks=tuple(tasks),
        task_names=tuple(names),
        actions_per_frame=index["actions_per_frame"],
        sensors=dataset.sensors,
        streams=tuple({name: dataset.stream(number, name) for name in dataset.sensors} for number in numbers),
    )


def _decode(encoded: bytes, camera: CameraSpec) -> np.ndarray:
    return fit_image(np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB")), camera)


@contextlib.contextmanager
def _told(which: str) -> Iterator[None]:
    """Turn what Pillow raises for a damaged image into one line."""
    try:
        yield
    except (OSError, SyntaxError, ValueError) as error:
        raise UsageError(f"{which} is damaged; fetch or collect the dataset again") from error


@contextlib.contextmanager
def _only_builder(directory: Path, name: str) -> Iterator[None]:
    """Wait until no other process builds this cache. The system lets go of the lock when a builder dies."""
    with writable(directory):
        directory.parent.mkdir(parents=True, exist_ok=True)
        opened = directory.with_name(directory.name + ".lock").open("a")
    with opened as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"another run is decoding {name}: waiting for it", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(dataset: LeRobotDataset, cameras: tuple[CameraSpec, ...], directory: Path) -> None:
    if not dataset.num_episodes:
        raise UsageError(f"{dataset.root}: no episodes; record or collect some")
    building = directory.with_name(directory.name + ".building")
    shutil.rmtree(building, ignore_errors=True)
    try:
        _fill(dataset, cameras, building, directory)
    except UsageError:
        shutil.rmtree(building, ignore_errors=True)  # what room it took is given back
        raise


def _fill(dataset: LeRobotDataset, cameras: tuple[CameraSpec, ...], building: Path, directory: Path) -> None:
    """Decode into `building`, which then becomes `directory`."""
    height, width = cameras[0].height, cameras[0].width
    shape = (dataset.num_frames, len(cameras), height, width, 3)
    with writable(directory, size=math.prod(shape)):
        building.mkdir(parents=True)
        images = _map_with_room(building / "images.npy", shape)
    states, privileged, actions, executed = [], [], [], []
    starts = [0]
    per_frame = dataset.facts.actions_per_frame
    with ThreadPoolExecutor() as pool:
        numbers = range(dataset.num_episodes)
        for number in track(numbers, description=f"decoding {dataset.root.name}"):
            episode = dataset.episode(number)
            start = starts[-1]
            for view, camera in enumerate(cameras):
                decoded = pool.map(
                    lambda data, camera=camera: _decode(data, camera), episode.images[camera.name]
                )
                with _told(f"{dataset.root}: an image of {camera.name} in episode {number}"):
                    for frame, image in enumerate(decoded):
                        images[start + frame, view] = image
            length = len(episode)
            starts.append(start + length)
            states.append(episode.state)
            empty = np.zeros((length, 0), np.float32)
            privileged.append(empty if episode.environment_state is None else episode.environment_state)
            actions.append(episode.action.reshape(length * per_frame, -1))
            done = episode.action if episode.executed_action is None else episode.executed_action
            executed.append(done.reshape(length * per_frame, -1))
    index = {"episode_starts": starts, "actions_per_frame": per_frame}
    with writable(directory):
        images.flush()
        np.save(building / "state.npy", np.concatenate(states))
        np.save(building / "environment_state.npy", np.concatenate(privileged))
        np.save(building / "actions.npy", np.concatenate(actions))
        np.save(building / "executed.npy", np.concatenate(executed))
        (building / "index.json").write_text(json.dumps(index))
        building.rename(directory)


def _map_with_room(path: Path, shape: tuple[int, ...]) -> np.memmap:
    """A new uint8 array in a mapped file whose room is reserved: on a full disk, writing a page would be a SIGBUS."""
    images = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    with path.open("r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # where the file system cannot reserve
                raise
    return images
