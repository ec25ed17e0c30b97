"""Random image shifts (DrQ, Yarats et al., 2021): pad by repeating the edge, crop at a random place."""

from __future__ import annotations

import numpy as np


def random_shift(images: np.ndarray, pixels: int, rng: np.random.Generator) -> np.ndarray:
    """Shift every image of uint8 [B, V, H, W, 3] by its own random offset of up to `pixels` in y and x."""
    if pixels == 0:
        return images
    batch, views, height, width, _ = images.shape
    offsets = rng.integers(-pixels, pixels + 1, (batch, views, 2))
    out = np.empty_like(images)
    rows, columns = np.arange(height), np.arange(width)
    for b in range(batch):
        for v in range(views):
            dy, dx = offsets[b, v]
            y = np.clip(rows + dy, 0, height - 1)
            x = np.clip(columns + dx, 0, width - 1)
            out[b, v] = images[b, v][y][:, x]
    return out
