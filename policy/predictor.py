"""What the engine, the receiver and the evaluation need of a loaded policy, whatever runs it."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Protocol

import numpy as np

from policy.observation import Observation, Prediction, SampleOptions
from policy.spec import PolicySpec


class Predictor(Protocol):
    """A loaded policy. Not thread-safe: one thread owns it."""

    spec: PolicySpec
    runtime: str  # "onnx", "torchscript", "eager" or "null"
    device: str  # "cpu", "cuda"
    why: str  # the reason for this runtime and device, for people
    reuses_features: bool  # `predict` takes features; false where vision and state share one graph

    def predict(
        self,
        observations: Sequence[Observation],
        options: Sequence[SampleOptions],
        features: Sequence[np.ndarray | None] | None = None,
    ) -> list[Prediction]:
        """Draw one chunk per observation in one run.

        All options of a call must share one `batch_key`; prefixes, seeds and sample counts may differ.
        The same seed, observation and policy give the same actions whatever else shares the run.

        Args:
            features: per observation `Prediction.features` of an earlier one with the same instruction, whose images
                then stand in for this one's, or None to look at this one's own. State and sensors are always fresh.

        Raises:
            TinyVLAError: `contract_mismatch` for an observation or option outside the spec.
        """
        ...


def batch_key(spec: PolicySpec, options: SampleOptions) -> Hashable:
    """Requests with equal keys may share one run."""
    if spec.sampler is None:
        return ("regression",)
    if options.sampler == "ddpm":
        return ("ddpm",)
    return ("ddim", options.ddim_steps or spec.sampler.default_steps)
