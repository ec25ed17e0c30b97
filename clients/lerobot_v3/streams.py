"""Sensor streams beside the dataset: faster than the frames, with times of their own, mapped instead of read.

    sensors/<name>/episode-000007.npy        float16 [N, C], the samples, oldest first
    sensors/<name>/episode-000007.times.npz  `times` float64 [N] and `frame_times` float64 [T], seconds, one clock

Tools of the field ignore the directory. `info.json` says under "tinyvla" / "sensors" what each stream is.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from clients.lerobot_v3.atomic import sync_directory, writable, write_atomically
from clients.lerobot_v3.layout import STAGING_DIR
from clients.sensor_window import causal_window
from policy.errors import UsageError

SENSORS_DIR = "sensors"
STORED_DTYPE = np.dtype(np.float16)
_SUFFIXES = (".npy", ".times.npz")


@dataclass(frozen=True)
class SensorFacts:
    """What a stream is, for every episode of a dataset."""

    channels: int
    rate_hz: float
    window: int  # samples that a policy is shown
    units: str

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))

    @classmethod
    def all_from(cls, free: Mapping[str, Any]) -> dict[str, SensorFacts]:
        """Of the free facts of a dataset; KeyError, TypeError or ValueError where they are damaged."""
        return {
            name: cls(int(f["channels"]), float(f["rate_hz"]), int(f["window"]), str(f["units"]))
            for name, f in dict(free.get("sensors") or {}).items()
        }


@dataclass(frozen=True, eq=False)
class SensorStream:
    """One episode's samples."""

    times: np.ndarray  # float64 [N], s, ascending
    values: np.ndarray  # [N, C]; float16 and memory-mapped when read
    frame_times: np.ndarray  # float64 [T], s, on the same clock: when each frame of the episode was taken

    def window(self, frame: int, facts: SensorFacts) -> np.ndarray:
        """float32 [T <= window, C]: what was known of the stream when a frame was taken."""
        at = float(self.frame_times[frame])
        return causal_window(self.times, self.values, at, samples=facts.window, rate_hz=facts.rate_hz)

    def check(self, frames: int) -> None:
        """Raise ValueError unless times ascend, numbers are finite and every frame has a time."""
        if self.values.ndim != 2 or len(self.times) != len(self.values):
            raise ValueError(f"{len(self.times)} times for samples of shape {list(self.values.shape)}")
        if self.frame_times.shape != (frames,):
            raise ValueError(f"{len(self.frame_times)} frame times for {frames} frames")
        for name, times in (("times", self.times), ("frame_times", self.frame_times)):
            if not np.isfinite(times).all() or (np.diff(times) <= 0).any():
                raise ValueError(f"{name}: not finite and ascending")
        if (
            not np.isfinite(self.values).all()
            or np.abs(self.values).max(initial=0) > np.finfo(STORED_DTYPE).max
        ):
            raise ValueError("samples: not finite, or too large for float16")


def stage_streams(root: Path, key: str, streams: Mapping[str, SensorStream], frames: int) -> None:
    """Write an episode's streams beside its staged parquet file; before that one, which says that all is there."""
    for name, stream in streams.items():
        stream.check(frames)
        values = np.ascontiguousarray(stream.values, STORED_DTYPE)
        base = root / STAGING_DIR / f"{key}.{name}"
        write_atomically(_with(base, ".npy"), lambda file, v=values: np.save(file, v))  # type: ignore[misc]
        write_atomically(
            _with(base, ".times.npz"),
            lambda file, s=stream: np.savez(file, times=s.times, frame_times=s.frame_times),  # type: ignore[misc]
        )


def publish_streams(root: Path, key: str, episode_index: int, names: Iterable[str]) -> None:
    """Give staged streams their place in the dataset; they stay staged as well, at no cost, until all is done.

    Raises:
        UsageError: a stream was not staged, or the disk refuses.
    """
    for name in names:
        for suffix in _SUFFIXES:
            staged = _with(root / STAGING_DIR / f"{key}.{name}", suffix)
            place = _path(root, name, episode_index, suffix)
            with writable(place):
                place.parent.mkdir(parents=True, exist_ok=True)
                if not staged.is_file():
                    raise UsageError(
                        f"{staged}: missing; delete {key}.parquet beside it and collect it again"
                    )
                os.link(staged, place)
    for name in names:
        sync_directory(root / SENSORS_DIR / name)


def remove_staged_streams(root: Path, key: str, names: Iterable[str]) -> None:
    """Drop what `publish_streams` has given its place."""
    for name in names:
        for suffix in _SUFFIXES:
            _with(root / STAGING_DIR / f"{key}.{name}", suffix).unlink(missing_ok=True)


def read_stream(root: Path, name: str, episode_index: int) -> SensorStream:
    """One episode's stream; samples are mapped, not read.

    Raises:
        UsageError: missing or damaged.
    """
    path, times_path = (_path(root, name, episode_index, suffix) for suffix in _SUFFIXES)
    try:
        values = np.load(path, mmap_mode="r")
        with np.load(times_path) as told:
            stream = SensorStream(told["times"], values, told["frame_times"])
        if values.ndim != 2 or len(values) != len(stream.times):
            raise ValueError(f"{len(stream.times)} times for samples of shape {list(values.shape)}")
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(
            f"{path}: damaged or missing ({reason}); fetch or collect the dataset again"
        ) from None
    return stream


def _path(root: Path, name: str, episode_index: int, suffix: str) -> Path:
    return _with(root / SENSORS_DIR / name / f"episode-{episode_index:06d}", suffix)


def _with(base: Path, suffix: str) -> Path:
    """`base` with `suffix` added; a dot in the base is no suffix."""
    return base.with_name(base.name + suffix)
