"""Inference latency of two policies, taken in turns so that both meet the same machine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from policy.observation import Observation, SampleOptions
from policy.predictor import Predictor

_WARM_UP, _REPEATS = 3, 30


@dataclass(frozen=True)
class Latency:
    """Milliseconds from an observation to its chunk, in this process, with nothing else asked of it."""

    p50_ms: float
    p95_ms: float
    runtime: str  # a bundle's is ONNX Runtime where it can be, a checkpoint's eager torch


def measure_latency(
    policies: Sequence[Predictor], observations: Sequence[Observation], ddim_steps: int | None
) -> list[Latency]:
    """One observation for each policy, asked 30 times in turns after warming up."""
    options = SampleOptions(ddim_steps=ddim_steps, seed=0)
    taken: list[list[float]] = [[] for _ in policies]
    for _ in range(_WARM_UP + _REPEATS):
        for mine, policy, observation in zip(taken, policies, observations, strict=True):
            began = time.perf_counter()
            policy.predict([observation], [options])
            mine.append(1e3 * (time.perf_counter() - began))
    found = []
    for mine, policy in zip(taken, policies, strict=True):
        p50, p95 = np.percentile(mine[_WARM_UP:], (50, 95))
        found.append(Latency(round(float(p50), 2), round(float(p95), 2), policy.runtime))
    return found
