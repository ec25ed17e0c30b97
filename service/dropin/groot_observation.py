"""GR00T's observations, nested (N1.6) or flat (N1.5), with batch and time dimensions, as one flat map per robot."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

import numpy as np

from service.dropin.groot_codec import GrootArrays
from service.dropin.peer_arrays import flatten
from service.dropin.peer_request import OPTIONS, Habits
from service.wire.values import malformed, shown

HABITS = Habits(
    separator=".",
    cameras=("video.ego_view", "video.front", "video.webcam", "video.image"),
    states=("state",),
    instructions=("annotation.human.task_description", "language.", "annotation."),
)
MAX_BATCH = 64
# Dimensions without batch and time: a picture has height, width and colour, a state has its entries.
_OWN_DIMS = {"video": 3, "state": 1}


@dataclass(frozen=True)
class GrootObservation:
    """What `get_action` asks."""

    robots: tuple[dict[str, object], ...]  # one flat map per element of the batch
    batched: bool  # whether the answer has a batch dimension
    nested: bool  # the answer's keys then lack ``action.``
    paired: bool  # the answer is a list of the actions and a map of remarks


def read_observation(data: object, arrays: GrootArrays, windows: Container[str] = ()) -> GrootObservation:
    """Read `data` of `get_action`; raises `malformed`.

    Args:
        windows: keys whose time steps are all wanted, as they are a sensor's.
    """
    if not isinstance(data, dict):
        raise malformed("data", "a map", shown(data))
    paired = "observation" in data
    observation = data["observation"] if paired else data
    flat = flatten(observation, HABITS.separator, arrays.read)
    nested = any(isinstance(observation.get(group), dict) for group in ("video", "state", "language"))
    size = _batch_size(flat)
    options = data.get("options") if paired else None
    asked = {key: options[key] for key in OPTIONS if key in options} if isinstance(options, dict) else {}
    batched = size is not None
    robots = tuple(
        {**asked, **{key: _of_robot(key, value, robot, batched, windows) for key, value in flat.items()}}
        for robot in range(size or 1)
    )
    return GrootObservation(robots, batched=batched, nested=nested, paired=paired)


def _batch_size(flat: dict[str, object]) -> int | None:
    sizes = {
        len(value)
        for key, value in flat.items()
        if isinstance(value, np.ndarray) and value.ndim == _own_dims(key) + 2
    }
    if not sizes:
        return None
    if len(sizes) > 1 or not 1 <= (size := sizes.pop()) <= MAX_BATCH:
        raise malformed("data", f"one batch size, 1 ... {MAX_BATCH}", "another")
    return size


def _own_dims(key: str) -> int:
    return _OWN_DIMS.get(key.partition(".")[0], 1)


def _of_robot(key: str, value: object, robot: int, batched: bool, windows: Container[str]) -> object:
    """One robot's entry: a window whole, of everything else the newest."""
    if isinstance(value, np.ndarray):
        own = value[robot] if value.ndim == _own_dims(key) + 2 else value
        return own if key in windows else _newest(key, own)
    if isinstance(value, list) and not key.startswith("state"):  # text: [B][T], [T], or [B] without time
        if batched and value:
            value = value[min(robot, len(value) - 1)]
        while isinstance(value, list) and value:
            value = value[-1]
    return value


def _newest(key: str, array: np.ndarray) -> np.ndarray:
    if array.ndim == _own_dims(key) + 1:
        if not len(array):
            raise malformed(key, "at least one time step", "none")
        array = array[-1]
    return array
