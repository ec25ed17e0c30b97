"""Datasets in which a red dot goes to a green one over a bluish ground: images, states and actions agree."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clients.lerobot_v3 import (
    DatasetFacts,
    EpisodeArrays,
    SensorFacts,
    SensorStream,
    finalize_dataset,
    stage_episode,
)

SIZE, PER_FRAME, FPS = 32, 2, 20.0
TIP = SensorFacts(channels=3, rate_hz=100.0, window=10, units="N")


def frame(position: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """uint8 [32, 32, 3]: a red dot at `position` and a green one at `goal`, both in [-1, 1]^2."""
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    image = np.broadcast_to([20.0, 40.0, 110.0], (SIZE, SIZE, 3))
    for place, colour in ((goal, (30.0, 220.0, 20.0)), (position, (250.0, 60.0, 10.0))):
        center = (place + 1) / 2 * (SIZE - 1)
        dot = np.exp(-((x - center[0]) ** 2 + (y - center[1]) ** 2) / 12)[..., None]
        image = image * (1 - dot) + np.array(colour) * dot
    return image.astype(np.uint8)


def encoded(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def course(rng: np.random.Generator, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions [frames * 2 + 1, 2] of a dot that walks towards a goal [2], which only the image tells."""
    position, goal = rng.uniform(-0.9, 0.9, (2, 2))
    places = [position]
    for _ in range(frames * PER_FRAME):
        way = goal - places[-1]
        step = 0.03 * way / max(0.2, float(np.linalg.norm(way)))
        places.append(places[-1] + step + 0.002 * rng.standard_normal(2))
    return np.array(places), goal


def tip_stream(rng: np.random.Generator, frames: int) -> SensorStream:
    """A force that wanders, and two channels that say nothing but noise and nothing at all."""
    times = np.arange(round(frames / FPS * TIP.rate_hz)) / TIP.rate_hz
    force = np.cumsum(rng.standard_normal(len(times))) / 10
    values = np.stack([force, rng.standard_normal(len(times)), np.full(len(times), 2.0)], 1)
    return SensorStream(times, values, np.arange(frames) / FPS)


Change = Callable[[list[EpisodeArrays]], list[EpisodeArrays]]


def write_dots(
    root: Path, episodes: int = 12, frames: int = 24, seed: int = 0, scale: float = 1.0,
    change: Change | None = None, sensor: bool = False, **facts: Any,
) -> Path:  # fmt: skip
    """State: where the dot is. Action: how far it goes in a control step. Both times `scale`, 1000 for millimetres."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(episodes):
        places, goal = course(rng, frames)
        steps = np.diff(places, axis=0).astype(np.float32) * scale
        made.append(
            EpisodeArrays(
                task="follow the dot",
                images={"front": [encoded(frame(place, goal)) for place in places[:-1:PER_FRAME]]},
                state=places[:-1:PER_FRAME].astype(np.float32) * scale,
                action=steps.reshape(frames, -1),
                environment_state=None,
                extra={"metaworld_task": "dot"},
                sensors={"tip": tip_stream(np.random.default_rng(len(made)), frames)} if sensor else {},
            )
        )
    keys = []
    for number, episode in enumerate(made if change is None else change(made)):
        keys.append(f"episode-{number:06d}")
        stage_episode(root, keys[-1], episode)
    described = {
        "cameras": {"front": (SIZE, SIZE)},
        "state_names": ("x", "y"),
        "action_names": ("dx", "dy"),
        "fps": FPS,
        "control_rate_hz": FPS * PER_FRAME,
        "actions_per_frame": PER_FRAME,
        "free": {"sensors": {"tip": TIP.to_json()}} if sensor else {},
        **facts,
    }
    finalize_dataset(root, keys, DatasetFacts(**described))
    return root
