"""From the journals of a recording, whole or cut off, to the LeRobotDataset v3.0 they stand for."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from clients.lerobot_v3 import (
    DatasetFacts,
    EpisodeArrays,
    SensorFacts,
    SensorStream,
    finalize_dataset,
    is_complete,
    stage_episode,
    staged_keys,
)
from clients.lerobot_v3.atomic import writable
from clients.lerobot_v3.layout import JOURNALS_DIR, STAGING_DIR
from clients.recording.journal import Journal, read_ending, read_journal
from policy.errors import UsageError

LEFT_OUT = ".left-out"


@dataclass(frozen=True)
class Finished:
    """What a recording came to."""

    episodes: int  # of the dataset; an episode with gaps is several
    frames: int
    cut_off: int  # episodes among them whose end was not recorded
    left_out: int  # journals that hold no frame, or another robot's, rate's or image size's than most


@dataclass(frozen=True)
class _Part:
    """A journal that is staged."""

    path: Path
    facts: DatasetFacts
    frames: int
    cut_off: bool


def claim(root: Path) -> TextIO:
    """Make `root` a place to record to, this process's alone until the returned file is closed or it dies.

    Raises:
        UsageError: it holds something else, is in use, or cannot be written.
    """
    directory = root / JOURNALS_DIR
    with writable(root):
        if root.is_dir() and not directory.is_dir() and any(root.iterdir()):
            raise UsageError(f"{root}: the directory is not empty and holds no recording; choose another")
        directory.mkdir(parents=True, exist_ok=True)
        lock = open(directory / "lock", "a")  # noqa: SIM115 - held open on purpose
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise UsageError(f"{root}: another process is recording there") from None
    return lock


def journals(root: Path) -> list[Path]:
    """In order of recording."""
    return sorted((root / JOURNALS_DIR).glob("*.journal"))


def finish(root: Path, log: Callable[[str], None]) -> Finished:
    """Turn the journals under `root`, which is claimed, into the dataset; may be killed and called again.

    Raises:
        UsageError: the disk is full; what was recorded stays.
    """
    done = Finished(0, 0, 0, 0)
    if not is_complete(root):  # else an earlier call was killed while it cleaned up
        done = _build(root, log)
    # Nothing is lost by this: the dataset is complete, or there was nothing to make one of.
    for path in [*journals(root), *(root / STAGING_DIR).glob("*")]:
        path.unlink()
    for directory in (root / STAGING_DIR, root / JOURNALS_DIR):
        if directory.is_dir():
            (directory / "lock").unlink(missing_ok=True)
            if not any(directory.iterdir()):
                directory.rmdir()
    return done


def _build(root: Path, log: Callable[[str], None]) -> Finished:
    parts, left_out = _staged_parts(root, log)
    if not parts:
        log("recording: nothing was recorded")
        return Finished(0, 0, 0, left_out)
    facts = _of_most(parts)
    for part in [part for part in parts if part.facts != facts]:
        differing = ", ".join(_differing(part.facts, facts))
        why = f"{part.path}: recorded with another robot, rate or image size than most; they differ in {differing}"
        _leave_out(part.path, why, log)
        parts.remove(part)
        left_out += 1
    finalize_dataset(root, [part.path.stem for part in parts], facts)
    frames, cut_off = sum(part.frames for part in parts), sum(part.cut_off for part in parts)
    log(
        f"recording: {frames} frames, {len(parts)} episodes in {root}"
        + (f"; {cut_off} of them were cut off" if cut_off else "")
    )
    return Finished(len(parts), frames, cut_off, left_out)


def _staged_parts(root: Path, log: Callable[[str], None]) -> tuple[list[_Part], int]:
    """The journals that can be episodes of a dataset, and how many cannot."""
    parts: list[_Part] = []
    left_out = 0
    staged = staged_keys(root)
    endings = _endings(root)
    for path in journals(root):
        ending = endings[_episode_of(path)]
        try:
            journal = read_journal(path)
            if not journal.frames:
                raise UsageError(f"{path}: not one frame of it is whole")
            facts = DatasetFacts.from_info(journal.about["facts"])
            if path.stem not in staged:
                stage_episode(root, path.stem, _arrays(journal, facts, ending))
        except (UsageError, ValueError, LookupError) as error:  # the last: frames of other cameras or sensors
            if isinstance(error.__cause__, OSError):  # the disk's fault, not the journal's
                raise
            _leave_out(path, str(error) if isinstance(error, UsageError) else f"{path}: {error!r}", log)
            left_out += 1
        else:
            parts.append(_Part(path, facts, len(journal.frames), ending is None))
    return parts, left_out


def _of_most(parts: Sequence[_Part]) -> DatasetFacts:
    """Those of most frames, of as many the first: a camera may have begun with pictures of another size."""
    kinds: list[DatasetFacts] = []
    frames: list[int] = []
    for part in parts:
        if part.facts not in kinds:
            kinds.append(part.facts)
            frames.append(0)
        frames[kinds.index(part.facts)] += part.frames
    return kinds[frames.index(max(frames))]


def _leave_out(path: Path, why: str, log: Callable[[str], None]) -> None:
    log(f"recording: left out: {why}")
    path.rename(path.with_suffix(LEFT_OUT))


def _endings(root: Path) -> dict[str, Mapping[str, Any] | None]:
    """How each episode ended, None where it was cut off: the last of its parts knows."""
    last_parts = {_episode_of(path): path for path in journals(root)}
    return {episode: read_ending(path) for episode, path in last_parts.items()}


def _episode_of(path: Path) -> str:
    """Its number, which all its parts have in their names."""
    return path.stem.partition("-")[0]


def _differing(facts: DatasetFacts, others: DatasetFacts) -> list[str]:
    """Names of the facts in which they differ."""
    told, expected = ({**vars(of), **of.free} for of in (facts, others))
    names = (told.keys() | expected.keys()) - {"free"}
    return sorted(name for name in names if told.get(name) != expected.get(name))


def _arrays(journal: Journal, facts: DatasetFacts, ending: Mapping[str, Any] | None) -> EpisodeArrays:
    frames = journal.frames
    ending = {"cut_off": True} if ending is None else ending
    held = np.concatenate([frame.held for frame in frames])
    times = np.array([frame.period - frames[0].period for frame in frames]) / facts.control_rate_hz
    return EpisodeArrays(
        task=journal.about["instruction"],
        images={camera: [frame.images[camera] for frame in frames] for camera in frames[0].images},
        state=np.stack([frame.state for frame in frames]),
        action=np.stack([frame.commands.reshape(-1) for frame in frames]),
        extra={**journal.about["extra"], **ending, "held": _runs(held)},
        sensors={
            name: _stream([frame.sensors[name] for frame in frames], times, sensor.rate_hz)
            for name, sensor in SensorFacts.all_from(facts.free).items()
        },
    )


def _stream(windows: Sequence[np.ndarray], frame_times: np.ndarray, rate_hz: float) -> SensorStream:
    """One stream of windows that may overlap; a window's newest sample is of its frame's time."""
    times: list[np.ndarray] = []
    values: list[np.ndarray] = []
    newest = -np.inf
    for window, at in zip(windows, frame_times, strict=True):
        own = at - np.arange(len(window))[::-1] / rate_hz
        new = own > newest + 0.5 / rate_hz
        times.append(own[new])
        values.append(window[new])
        newest = max(newest, at) if new.any() else newest
    return SensorStream(np.concatenate(times), np.concatenate(values), np.asarray(frame_times, np.float64))


def _runs(held: np.ndarray) -> list[list[int]]:
    """Where the receiver held: [first control period, how many] of each stretch."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], held, [False]]).astype(np.int8)))
    return [[int(first), int(end - first)] for first, end in edges.reshape(-1, 2)]
