"""The short-MetaWorld layout: pictures by task, trajectory and step, and a pickle of arrays for each task.

    img_only/<task>/<trajectory>/<step>.jpg
    r3m-processed/r3m_MT10_20/<task>.pkl    {"actions": [N, T, 4], "state": [N, T, 39], ...}

Trajectories are padded to one length by repeating their last step.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clients.lerobot_v3 import EpisodeArrays
from clients.robots.metaworld_sim import ACTION_NAMES, ENVIRONMENT_STATE_NAMES, STATE_NAMES
from clients.robots.metaworld_tasks import instruction, task_name
from policy.errors import UsageError
from trainer.importing.array_pickle import PickleRefused, read_array_pickle
from trainer.importing.matching import usable_runs
from trainer.importing.pictures import Pictures, list_pictures, read_picture
from trainer.importing.report import LeftOut, SessionReport

_PICTURES, _PICKLES = "img_only", "r3m-processed/r3m_MT10_20"
_OBSERVATION = 39  # MetaWorld's: hand and gripper 4, two objects 7 each, the same of the step before, goal 3


@dataclass(frozen=True)
class ShortSettings:
    """What decides which frames are made."""

    camera: str
    size: tuple[int, int]  # height, width
    quality: int
    min_frames: int


def find_tasks(source: Path) -> dict[str, tuple[Path, Path]]:
    """Task -> its pictures and its pickle, either of which may be missing; empty where `source` is something else.

    Copies of the dataset lie one or two directories deep, pictures and pickles not always in the same one.
    """
    roots = [source, source / "short-MetaWorld", source / "short-MetaWorld/short-MetaWorld"]
    pictures = next((root / _PICTURES for root in roots if (root / _PICTURES).is_dir()), None)
    pickles = next((root / _PICKLES for root in roots if (root / _PICKLES).is_dir()), None)
    if pictures is None or pickles is None:
        return {}
    names = {path.name for path in pictures.iterdir() if path.is_dir()}
    names |= {path.stem for path in pickles.glob("*.pkl") if path.stem != "data"}  # all tasks once more
    return {name: (pictures / name, pickles / f"{name}.pkl") for name in sorted(names)}


def task_episodes(
    name: str, pictures: Path, pickled: Path, settings: ShortSettings, report: SessionReport
) -> Iterator[EpisodeArrays]:
    """Every trajectory of a task.

    Raises:
        LeftOut: pictures or pickle are missing, or the pickle is none of arrays.
    """
    if not pictures.is_dir():
        raise LeftOut(f"no pictures in {_PICTURES}")
    if not pickled.is_file():
        raise LeftOut(f"no {pickled.name}")
    try:
        told = read_array_pickle(pickled.read_bytes())
        actions, states = (_trajectories(told, key) for key in ("actions", "state"))
    except PickleRefused as error:
        raise LeftOut(f"{pickled.name}: {error}") from None
    directories = {
        int(path.name): path for path in pictures.iterdir() if path.is_dir() and path.name.isdigit()
    }
    for number in sorted(directories):
        report.found["trajectories"] += 1
        if number >= min(len(actions), len(states)):
            report.drop("trajectory: not in the pickle", 1)
            continue
        steps = list_pictures(directories[number], report)
        yield from _trajectory(name, number, steps, actions[number], states[number], settings, report)
    missing = set(range(min(len(actions), len(states)))) - set(directories)
    report.drop("trajectory: no pictures", len(missing))


def _trajectories(told: Any, key: str) -> list[np.ndarray]:
    """float32 [T, D] of each trajectory, from an array [N, T, D] or lists of numbers."""
    value = told.get(key) if isinstance(told, dict) else None
    if (isinstance(value, np.ndarray) and value.ndim != 3) or not isinstance(
        value, list | tuple | np.ndarray
    ):
        raise PickleRefused(f"holds no {key!r} of trajectories")
    return [_steps(rows, key) for rows in value]


def _steps(rows: Any, key: str) -> np.ndarray:
    if isinstance(rows, list | tuple) and all(map(_is_row, rows)) and len(set(map(len, rows))) == 1:
        with contextlib.suppress(OverflowError):  # an integer beyond all bounds; refused below
            rows = np.array([[float(number) for number in row] for row in rows])
    if not isinstance(rows, np.ndarray) or rows.ndim != 2:
        raise PickleRefused(f"{key!r} is not trajectories of steps of numbers")
    with np.errstate(over="ignore"):
        return rows.astype(np.float32)


def _is_row(row: Any) -> bool:
    if isinstance(row, np.ndarray):
        return row.ndim == 1
    return isinstance(row, list | tuple) and all(isinstance(number, int | float) for number in row)


def _trajectory(
    name: str,
    number: int,
    steps: Pictures,
    actions: np.ndarray,
    states: np.ndarray,
    settings: ShortSettings,
    report: SessionReport,
) -> Iterator[EpisodeArrays]:
    """The stretches of a trajectory in which every step has a picture and numbers, paired by the step's number."""
    if actions.shape[1] != len(ACTION_NAMES) or states.shape[1] < len(STATE_NAMES):
        raise LeftOut(
            f"actions of {actions.shape[1]} and states of {states.shape[1]} numbers are not MetaWorld's"
        )
    length = _unpadded(actions, states)
    report.drop("step: padding", min(len(actions), len(states)) - length)
    paths = dict(zip(steps.times.tolist(), steps.paths, strict=True))
    report.drop(
        "picture: no step in the pickle",
        sum(step not in range(min(len(actions), len(states))) for step in paths),
    )
    with ThreadPoolExecutor() as pool:
        images = list(pool.map(lambda step: _picture(paths.get(step), settings), range(length)))
    finite = np.isfinite(actions[:length]).all(1) & np.isfinite(states[:length]).all(1)
    report.drop("step: not finite", (~finite).sum())
    report.drop("step: no picture", sum(step not in paths for step in range(length)))
    report.drop(
        "picture: not a whole JPEG", sum(images[step] is None and step in paths for step in range(length))
    )
    usable = finite & np.array([image is not None for image in images], bool)
    for part in usable_runs(usable):
        count = part.stop - part.start
        if count < settings.min_frames:
            report.drop("step: stretch too short", count)
            continue
        clipped = np.clip(actions[part], -1.0, 1.0)
        report.found["actions clipped to [-1, 1]"] += int((clipped != actions[part]).any(1).sum())
        report.episodes += 1
        report.frames += count
        yield EpisodeArrays(
            task=_instruction(name),
            images={settings.camera: [image for image in images[part] if image is not None]},
            state=states[part, : len(STATE_NAMES)],
            action=clipped,
            environment_state=_privileged(states[part]),
            extra={
                "metaworld_task": _plain(name),
                "trajectory": f"{name}/{number}",
                "first_step": part.start,
            },
        )


def _picture(path: Path | None, settings: ShortSettings) -> bytes | None:
    return None if path is None else read_picture(path, settings.size, settings.quality)


def _unpadded(actions: np.ndarray, states: np.ndarray) -> int:
    """Steps before the last one begins to repeat itself."""
    length = min(len(actions), len(states))
    while length > 1 and (
        np.array_equal(actions[length - 1], actions[length - 2])
        and np.array_equal(states[length - 1], states[length - 2])
    ):
        length -= 1
    return length


def _privileged(states: np.ndarray) -> np.ndarray:
    """float32 [T, 17]: objects and goal; zeros where the states do not tell."""
    if states.shape[1] != _OBSERVATION:
        return np.zeros((len(states), len(ENVIRONMENT_STATE_NAMES)), np.float32)
    return np.concatenate([states[:, 4:18], states[:, 36:39]], 1)


def _plain(name: str) -> str:
    try:
        return task_name(name)
    except UsageError:  # another benchmark's, or a name of its own
        return name


def _instruction(name: str) -> str:
    try:
        return instruction(name)
    except UsageError:
        return name.replace("-", " ")
