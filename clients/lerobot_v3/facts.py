"""What holds for every episode of a dataset, and how it is told in `meta/info.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from clients.lerobot_v3.layout import (
    ACTION,
    ENVIRONMENT_STATE,
    EXECUTED_ACTION,
    IMAGE_PREFIX,
    OBSERVATION_PREFIX,
    STATE,
    image_key,
)

_OWN_KEYS = ("control_rate_hz", "actions_per_frame", "action_dim", "action_names")

# Columns that every LeRobotDataset has, in its order.
INDEX_FEATURES: dict[str, str] = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}


@dataclass(frozen=True)
class DatasetFacts:
    """Sizes, names and rates shared by all episodes.

    A frame is one camera instant; it may carry several control-rate actions, oldest first.
    """

    cameras: Mapping[str, tuple[int, int]]  # name -> (height, width)
    state_names: tuple[str, ...]  # length D
    action_names: tuple[str, ...]  # length A, of a single action
    fps: float  # frames per second
    control_rate_hz: float  # actions per second
    actions_per_frame: int = 1  # K
    environment_state_names: tuple[str, ...] = ()  # length E; empty when there is none
    executed_actions: bool = False  # episodes also hold what was executed
    robot_type: str | None = None
    free: Mapping[str, Any] = field(default_factory=dict)  # JSON-able, kept in info.json's "tinyvla"
    # camera -> its column, in datasets of others where that is not `image_key`
    image_columns: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.cameras and not self.state_names:
            raise ValueError("a dataset needs at least one camera or a state")
        if not self.action_names:
            raise ValueError("a dataset needs action names")
        if self.actions_per_frame < 1 or self.fps <= 0 or self.control_rate_hz <= 0:
            raise ValueError("actions_per_frame, fps and control_rate_hz must be positive")
        if any("/" in camera for camera in self.cameras):
            raise ValueError("camera names may not contain '/', which separates columns of the format")
        taken = sorted(set(self.free) & set(_OWN_KEYS))
        if taken:
            raise ValueError(f"free facts may not use the names {taken}")

    @property
    def action_dim(self) -> int:
        """A: numbers in one action."""
        return len(self.action_names)

    def column_of(self, camera: str) -> str:
        """Column of one camera."""
        return self.image_columns.get(camera, image_key(camera))

    def features(self) -> dict[str, dict[str, Any]]:
        """The `features` of info.json: key -> dtype, shape, names."""
        features: dict[str, dict[str, Any]] = {}
        for camera, (height, width) in self.cameras.items():
            names = ["height", "width", "channels"]
            features[self.column_of(camera)] = {"dtype": "image", "shape": [height, width, 3], "names": names}
        if self.state_names:
            features[STATE] = _vector(self.state_names)
        if self.environment_state_names:
            features[ENVIRONMENT_STATE] = _vector(self.environment_state_names)
        features[ACTION] = _vector(self._flat_action_names())
        if self.executed_actions:
            features[EXECUTED_ACTION] = _vector(self._flat_action_names())
        for key, dtype in INDEX_FEATURES.items():
            features[key] = {"dtype": dtype, "shape": [1], "names": None}
        return features

    def _flat_action_names(self) -> tuple[str, ...]:
        if self.actions_per_frame == 1:
            return self.action_names
        return tuple(f"{name}.{k}" for k in range(self.actions_per_frame) for name in self.action_names)

    def to_info(self) -> dict[str, Any]:
        """The part of info.json that these facts determine."""
        own = {
            "control_rate_hz": float(self.control_rate_hz),
            "actions_per_frame": self.actions_per_frame,
            "action_dim": self.action_dim,
            "action_names": list(self.action_names),
        }
        return {
            "robot_type": self.robot_type,
            # lerobot reads an integer here; a fraction is kept where the rate is one.
            "fps": int(self.fps) if float(self.fps).is_integer() else float(self.fps),
            "features": self.features(),
            "tinyvla": {**own, **self.free},
        }

    @classmethod
    def from_info(cls, info: Mapping[str, Any]) -> DatasetFacts:
        """Facts of any image-based dataset; one that is not ours has one action per frame.

        Raises:
            KeyError, TypeError, ValueError: `info` is not that of a LeRobotDataset.
        """
        features: Mapping[str, Any] = info["features"]
        own = dict(info.get("tinyvla") or {})
        columns = _image_columns(features)
        fps = float(info["fps"])
        return cls(
            cameras={camera: _size(features[key]) for camera, key in columns.items()},
            state_names=_names(features, STATE),
            action_names=tuple(own.get("action_names") or _names(features, ACTION)),
            environment_state_names=_names(features, ENVIRONMENT_STATE),
            fps=fps,
            control_rate_hz=float(own.get("control_rate_hz", fps)),
            actions_per_frame=int(own.get("actions_per_frame", 1)),
            executed_actions=EXECUTED_ACTION in features,
            robot_type=info.get("robot_type"),
            free={key: value for key, value in own.items() if key not in _OWN_KEYS},
            image_columns={camera: key for camera, key in columns.items() if key != image_key(camera)},
        )


def _image_columns(features: Mapping[str, Any]) -> dict[str, str]:
    """Column of each camera; `observation.image` is that of a camera named `image`."""
    columns: dict[str, str] = {}
    for key in (key for key, feature in features.items() if feature["dtype"] == "image"):
        camera = key.removeprefix(IMAGE_PREFIX).removeprefix(OBSERVATION_PREFIX)
        if camera in columns:
            raise ValueError(f"{columns[camera]} and {key} are both of a camera named {camera!r}")
        columns[camera] = key
    return columns


def _size(feature: Mapping[str, Any]) -> tuple[int, int]:
    height, width = feature["shape"][:2]
    return int(height), int(width)


def _vector(names: tuple[str, ...]) -> dict[str, Any]:
    return {"dtype": "float32", "shape": [len(names)], "names": list(names)}


def _names(features: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """Names of a vector's entries; datasets of others may nest them or have none."""
    if key not in features:
        return ()
    names, length = features[key].get("names"), int(features[key]["shape"][0])
    if isinstance(names, Mapping):
        names = [name for group in names.values() if isinstance(group, list) for name in group]
    if not names or len(names) != length:
        return tuple(f"{key}_{i}" for i in range(length))
    return tuple(str(name) for name in names)
