"""Random image shifts (DrQ, Yarats et al., 2021): pad by repeating the edge, crop at a random place."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from policy.errors import UsageError
from policy.spec import CameraSpec


def shifted(image: np.ndarray, dy: int, dx: int, out: np.ndarray) -> None:
    """Write `image` [H, W, C] into `out` so that out[y, x] = image[y + dy, x + dx], edges repeated."""
    height, width, _ = image.shape
    top, bottom = max(0, -dy), height - max(0, dy)  # rows of `out` that lie inside the image
    left, right = max(0, -dx), width - max(0, dx)
    out[top:bottom, left:right] = image[top + dy : bottom + dy, left + dx : right + dx]
    out[top:bottom, :left] = out[top:bottom, left : left + 1]
    out[top:bottom, right:] = out[top:bottom, right - 1 : right]
    out[:top] = out[top]
    out[bottom:] = out[bottom - 1]


def check_shift(pixels: int, cameras: Iterable[CameraSpec]) -> None:
    """Raise UsageError unless something of every camera's picture remains after a shift of so many pixels."""
    side = min(min(camera.height, camera.width) for camera in cameras)
    if pixels >= side:
        raise UsageError(f"--shift must be below {side}, the pictures' shorter side, got {pixels}")


def random_shift(images: np.ndarray, pixels: int, rng: np.random.Generator) -> np.ndarray:
    """Shift every image of uint8 [B, V, H, W, 3] by its own random offset of up to `pixels` in y and x."""
    if pixels == 0:
        return images
    batch, views = images.shape[:2]
    offsets = rng.integers(-pixels, pixels + 1, (batch, views, 2)).tolist()
    out = np.empty_like(images)
    for b in range(batch):
        for v in range(views):
            dy, dx = offsets[b][v]
            shifted(images[b, v], dy, dx, out[b, v])
    return out
