"""A film of what a policy sees, made of the pictures that it is given."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from policy.observation import Observation
from policy.predictor import Predictor

# Pictures for policies are small.
_SCALE = 3


class _Renderer(Protocol):
    def render(self, *scene: Any) -> dict[str, np.ndarray]: ...


@dataclass(frozen=True)
class Filmed:
    """An episode, and what its latency is measured with."""

    frames: list[np.ndarray]  # uint8 [H, W, 3]
    fps: float  # at which it is as fast as it was
    policy: Predictor
    observation: Observation  # its last


class KeepingRenderer:
    """Renders as `renderer` does, and keeps every set of pictures as a frame of the film."""

    def __init__(self, renderer: _Renderer) -> None:
        self._renderer = renderer
        self.frames: list[np.ndarray] = []  # uint8 [H, W, 3]

    def render(self, *scene: Any) -> dict[str, np.ndarray]:
        images = self._renderer.render(*scene)
        self.frames.append(mosaic(images))
        return images

    def close(self) -> None:
        """Free what renders."""
        self._renderer.close()  # type: ignore[attr-defined]


def mosaic(images: Mapping[str, np.ndarray]) -> np.ndarray:
    """Views of one size side by side in rows, enlarged; uint8 [H, W, 3] of even size."""
    pictures = list(images.values())
    columns = math.ceil(math.sqrt(len(pictures)))
    blank = np.zeros_like(pictures[0])
    pictures += [blank] * (-len(pictures) % columns)
    rows = [np.concatenate(pictures[i : i + columns], 1) for i in range(0, len(pictures), columns)]
    whole = np.concatenate(rows).repeat(_SCALE, 0).repeat(_SCALE, 1)
    return whole[: whole.shape[0] // 2 * 2, : whole.shape[1] // 2 * 2]
