"""Drawing normalised chunks with a denoising function: the same loop for every runtime, on the host.

On two cores the loop's own arithmetic is a thousandth of a network call, and a host-side loop serves any step count,
DDPM and prefixes from one exported graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from policy.schedule import plan
from policy.spec import SamplerSpec

# (chunk [B, H, A], timestep int64 [B], prefix_length int64 [B]) -> network output [B, H, A]
Denoise = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def draw_chunks(
    denoise: Denoise,
    sampler: SamplerSpec | None,
    kind: str,
    steps: int,
    rngs: Sequence[np.random.Generator],
    prefixes: Sequence[np.ndarray | None],
    horizon: int,
    action_dim: int,
    temperatures: Sequence[float] | None = None,
) -> np.ndarray:
    """Draw one chunk per generator.

    Args:
        denoise: the network.
        sampler: the policy's sampler; None draws the single pass of a regression head.
        kind: "ddim" or "ddpm".
        steps: DDIM steps.
        rngs: one generator per chunk, so that a chunk does not depend on what else is in the batch.
        prefixes: per chunk None or normalised committed actions [d, A].
        temperatures: per chunk the standard deviation of the noise; 1 by default, as in training.

    Returns:
        float32 [B, horizon, action_dim], normalised; prefixes come back as the chunk's first actions.
    """
    batch = len(rngs)
    shape = (horizon, action_dim)
    lengths = np.array([0 if prefix is None else len(prefix) for prefix in prefixes], np.int64)
    committed = np.zeros((batch, *shape), np.float32)
    for row, prefix in enumerate(prefixes):
        if prefix is not None:
            committed[row, : len(prefix)] = prefix
    is_committed = (np.arange(horizon) < lengths[:, None])[..., None]

    if sampler is None:
        output = _or_nan(denoise(committed, np.zeros(batch, np.int64), lengths))
        return np.where(is_committed, committed, output).astype(np.float32)

    scale = np.ones(batch, np.float32) if temperatures is None else np.asarray(temperatures, np.float32)

    def draw() -> np.ndarray:
        return scale[:, None, None] * np.stack([r.standard_normal(shape, dtype=np.float32) for r in rngs])

    x = draw()
    for update in plan(sampler.train_steps, sampler.prediction_type, kind, steps):
        x = np.where(is_committed, committed, x)
        output = _or_nan(denoise(x, np.full(batch, update.timestep, np.int64), lengths))
        x0 = np.clip(update.sample * x + update.output * output, -1.0, 1.0)
        x = (update.to_x0 * x0 + update.to_x * x).astype(np.float32)
        if update.noise:
            x += np.float32(update.noise) * draw()
    return np.where(is_committed, committed, x).astype(np.float32)


def _or_nan(output: np.ndarray) -> np.ndarray:
    """Rows that hold infinity become NaN, which no bound turns into a motion at full speed."""
    return np.where(np.isfinite(output).all((1, 2), keepdims=True), output, np.float32(np.nan))
