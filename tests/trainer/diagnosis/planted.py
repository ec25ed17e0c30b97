"""Faults of a recording, planted into the episodes of a sound one."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
from PIL import Image

from clients.lerobot_v3 import EpisodeArrays
from tests.trainer.dots import SIZE, encoded

Episodes = list[EpisodeArrays]


def elsewhere(episodes: Episodes) -> Episodes:
    """Every episode's images are another's."""
    return [
        dataclasses.replace(one, images=other.images)
        for one, other in zip(episodes, episodes[1:] + episodes[:1], strict=True)
    ]


def shuffled(episodes: Episodes) -> Episodes:
    """Images in random order."""
    rng = np.random.default_rng(3)
    changed = []
    for one in episodes:
        order = rng.permutation(len(one.images["front"]))
        changed.append(dataclasses.replace(one, images={"front": [one.images["front"][i] for i in order]}))
    return changed


def sorted_as_text(episodes: Episodes) -> Episodes:
    """The images of frames 0, 1, 10, 11, ... beside the actions of frames 0, 1, 2, 3, ..."""
    changed = []
    for one in episodes:
        frames = one.images["front"]
        order = sorted(range(len(frames)), key=str)
        changed.append(dataclasses.replace(one, images={"front": [frames[i] for i in order]}))
    return changed


def noise(episodes: Episodes) -> Episodes:
    """Cameras that show nothing."""
    rng = np.random.default_rng(4)

    def picture() -> bytes:
        return encoded(rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8))

    return [
        dataclasses.replace(one, images={"front": [picture() for _ in one.images["front"]]})
        for one in episodes
    ]


def swapped(episodes: Episodes) -> Episodes:
    """Blue, green and red."""

    def turn(data: bytes) -> bytes:
        return encoded(np.asarray(Image.open(io.BytesIO(data)))[..., ::-1].copy())

    return [
        dataclasses.replace(one, images={"front": [turn(data) for data in one.images["front"]]})
        for one in episodes
    ]


def one_constant_action(episodes: Episodes) -> Episodes:
    """The second action is always the same."""
    changed = []
    for one in episodes:
        action = one.action.copy()
        action[:, 1::2] = 0.125
        changed.append(dataclasses.replace(one, action=action))
    return changed


def doubled(episodes: Episodes) -> Episodes:
    """Four-dimensional states and actions."""
    return [
        dataclasses.replace(
            one,
            state=np.tile(one.state, 2),
            action=np.tile(one.action.reshape(len(one.action), -1, 2), 2).reshape(len(one.action), -1),
        )
        for one in episodes
    ]
