"""The noise schedule and the coefficients of one sampling step: the only place they are computed.

Squared-cosine schedule (Nichol & Dhariwal, 2021), DDIM (Song et al., 2021; eta = 0) and DDPM (Ho et al., 2020) updates
with the prediction clipped to [-1, 1]. Timesteps are spaced from the end ("trailing"), so that sampling always starts
from the noisiest level the network was trained on.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

_MAX_BETA = 0.999


@lru_cache
def alphas_cumprod(train_steps: int) -> np.ndarray:
    """float64 [train_steps]: signal variance left after t + 1 noising steps."""
    time = np.arange(train_steps + 1) / train_steps
    signal = np.cos((time + 0.008) / 1.008 * np.pi / 2) ** 2
    betas = np.minimum(1 - signal[1:] / signal[:-1], _MAX_BETA)
    return np.cumprod(1 - betas)


def ddim_timesteps(train_steps: int, steps: int) -> np.ndarray:
    """int64 [steps], from train_steps - 1 downwards, evenly spaced.

    Raises:
        ValueError: steps outside 1 ... train_steps.
    """
    if not 1 <= steps <= train_steps:
        raise ValueError(f"steps must lie in 1 ... {train_steps}, got {steps}")
    return np.round(np.arange(train_steps, 0, -train_steps / steps)).astype(np.int64)[:steps] - 1


@dataclass(frozen=True)
class StepCoefficients:
    """One update: x0 = a x + b out, clipped; then x' = c x0 + d x + s noise."""

    timestep: int
    sample: float  # a
    output: float  # b
    to_x0: float  # c
    to_x: float  # d
    noise: float  # s


def x0_coefficients(prediction_type: str, alpha_bar: float) -> tuple[float, float]:
    """(a, b) with x0 = a x + b out, for the network's prediction type."""
    signal, noise = alpha_bar**0.5, (1 - alpha_bar) ** 0.5
    if prediction_type == "sample":
        return 0.0, 1.0
    if prediction_type == "epsilon":
        return 1 / signal, -noise / signal
    if prediction_type == "v_prediction":
        return signal, -noise
    raise ValueError(f"unknown prediction type {prediction_type!r}")


@lru_cache
def plan(train_steps: int, prediction_type: str, sampler: str, steps: int) -> tuple[StepCoefficients, ...]:
    """All updates from pure noise to a clean sample. `steps` is ignored by DDPM, which takes every timestep."""
    alphas = alphas_cumprod(train_steps)
    ddpm = sampler == "ddpm"
    timesteps = np.arange(train_steps)[::-1] if ddpm else ddim_timesteps(train_steps, steps)
    updates = []
    for i, t in enumerate(timesteps):
        now = alphas[t]
        after = alphas[timesteps[i + 1]] if i + 1 < len(timesteps) else 1.0
        a, b = x0_coefficients(prediction_type, now)
        if ddpm:
            alpha = now / after
            c = after**0.5 * (1 - alpha) / (1 - now)
            d = alpha**0.5 * (1 - after) / (1 - now)
            s = max((1 - after) / (1 - now) * (1 - alpha), 0.0) ** 0.5
        else:
            # epsilon = (x - sqrt(now) x0) / sqrt(1 - now), carried over to the next noise level.
            d = ((1 - after) / (1 - now)) ** 0.5
            c = after**0.5 - now**0.5 * d
            s = 0.0
        updates.append(StepCoefficients(int(t), float(a), float(b), float(c), float(d), float(s)))
    return tuple(updates)
