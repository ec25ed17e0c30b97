"""Frames made small enough to compare thousands of them."""

from __future__ import annotations

import numpy as np

from trainer.cache import FrameCache

SIDE = 16


def thumbnails(cache: FrameCache, frames: np.ndarray) -> np.ndarray:
    """float32 [N, V * 16 * 16 * 3] in [0, 1]: the mean of each block of pixels, all cameras."""
    images = np.asarray(cache.images[frames])  # [N, V, H, W, 3]
    height, width = images.shape[2:4]
    rows, columns = min(SIDE, height), min(SIDE, width)
    cut = images[:, :, : height - height % rows, : width - width % columns]
    blocks = cut.reshape(*cut.shape[:2], rows, cut.shape[2] // rows, columns, cut.shape[3] // columns, 3)
    return blocks.mean((3, 5), dtype=np.float32).reshape(len(images), -1) / 255


def mean_colour(cache: FrameCache, frames: np.ndarray, view: int) -> np.ndarray:
    """Mean red, green and blue of one camera in [0, 1]."""
    return np.asarray(cache.images[frames, view]).mean((0, 1, 2), dtype=np.float64) / 255
