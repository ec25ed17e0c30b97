"""Something for the cameras to see: about as hard to compress as a real scene, and the same in every run."""

from __future__ import annotations

import numpy as np

from policy.observation import Observation
from policy.spec import PolicySpec
from service.warmup import synthetic_observation


def bench_observation(spec: PolicySpec, width: int, height: int) -> Observation:
    """An observation that fits the policy, its images of the size asked for."""
    seen = synthetic_observation(spec)
    return Observation(
        images={name: _picture(width, height) for name in seen.images},
        state=seen.state,
        instruction=seen.instruction,
        sensors=seen.sensors,
    )


def _picture(width: int, height: int) -> np.ndarray:
    """uint8 [H, W, 3]: slopes and edges with a camera's noise."""
    y, x = np.mgrid[0:height, 0:width] / max(width, height)
    planes = [x, y, 0.5 + 0.5 * np.sin(9 * x) * np.cos(7 * y)]
    picture = np.stack(planes, axis=-1) * 200 + 30 * ((x * 4 + y * 3) % 1 > 0.5)[..., None]
    noise = np.random.default_rng(0).normal(0, 3, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)
