"""A policy without a network: for measuring transport and for tests of everything around a policy."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from policy.errors import UsageError
from policy.observation import (
    MAX_SAMPLES,
    Observation,
    Prediction,
    SampleOptions,
    check_observation,
    check_options,
)
from policy.spec import (
    ActionSpec,
    CameraSpec,
    InstructionSpec,
    MeanStdStats,
    Normalization,
    PolicySpec,
    RangeStats,
    SamplerSpec,
    SensorSpec,
    StateSpec,
)

_BEGINNINGS = 2**16 + 1  # a prime: seeds that are powers of two apart differ as well


def null_spec(
    *,
    cameras: Sequence[str] = ("corner4",),
    size: int = 128,
    state_dim: int = 4,
    sensors: Sequence[SensorSpec] = (),
    horizon: int = 48,
    action_dim: int = 4,
    rate_hz: float = 80.0,
    max_prefix: int = 32,
    instruction_required: bool = False,
) -> PolicySpec:
    """A spec of the asked shape, with unit ranges."""
    return PolicySpec(
        name="null",
        cameras=tuple(CameraSpec(name=name, height=size, width=size) for name in cameras),
        state=StateSpec(names=tuple(f"s{i}" for i in range(state_dim)), units=("m",) * state_dim),
        sensors=tuple(sensors),
        instruction=InstructionSpec(required=instruction_required),
        action=ActionSpec(
            names=tuple(f"a{i}" for i in range(action_dim)),
            units=("1",) * action_dim,
            kind="delta",
            low=(-1.0,) * action_dim,
            high=(1.0,) * action_dim,
            rate_hz=rate_hz,
        ),
        horizon=horizon,
        head="diffusion",
        sampler=SamplerSpec(),
        max_prefix=max_prefix,
        normalization=Normalization(
            state=RangeStats(minimum=(-1.0,) * state_dim, maximum=(1.0,) * state_dim),
            action=RangeStats(minimum=(-1.0,) * action_dim, maximum=(1.0,) * action_dim),
            sensors={
                s.name: MeanStdStats(mean=(0.0,) * s.channels, std=(1.0,) * s.channels) for s in sensors
            },
        ),
    )


def read_contract(path: Path) -> PolicySpec:
    """The contract in a JSON file.

    Raises:
        UsageError: unreadable, or no contract.
    """
    try:
        return PolicySpec.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        raise UsageError(f"{path}: {where}: {first['msg']}") from None


class NullPolicy:
    """Answers seeded uniform actions; `run_ms` of sleep stand in for a run, however large the batch.

    All of them are drawn when it is made, and a seed says where a chunk begins: setting up a generator for each would
    take longer than the doors which it is there to measure.
    """

    runtime = "null"
    device = "cpu"
    why = "there is no network to run"
    reuses_features = False

    def __init__(self, spec: PolicySpec | None = None, *, run_ms: float = 0.0) -> None:
        self.spec = spec or null_spec()
        self._run_s = run_ms / 1e3
        low, high = (np.asarray(bound, np.float32) for bound in (self.spec.action.low, self.spec.action.high))
        self._span = high - low
        rows = _BEGINNINGS + MAX_SAMPLES * self.spec.horizon
        self._drawn = np.random.default_rng(0).random((rows, len(low)), np.float32) * self._span + low

    def predict(
        self,
        observations: Sequence[Observation],
        options: Sequence[SampleOptions],
        features: Sequence[np.ndarray | None] | None = None,
    ) -> list[Prediction]:
        """See `Predictor.predict`; there are no features to take."""
        for observation, option in zip(observations, options, strict=True):
            check_observation(self.spec, observation)
            check_options(self.spec, option)
        if self._run_s:
            time.sleep(self._run_s)
        return [self._draw(option) for option in options]

    def _draw(self, option: SampleOptions) -> Prediction:
        spec = self.spec
        seed = option.seed if option.seed is not None else secrets.randbits(63)
        begin, shape = seed % _BEGINNINGS, (option.samples, spec.horizon, spec.action.dim)
        drawn = self._drawn[begin : begin + shape[0] * shape[1]].reshape(shape).copy()
        if option.prefix is not None:
            drawn[:, : len(option.prefix)] = option.prefix
        several = option.samples > 1
        return Prediction(
            actions=drawn.mean(0) if several else drawn[0],
            uncertainty=(drawn / (self._span / 2)).std(0).mean(-1).astype(np.float32) if several else None,
            ddim_steps=self._steps(option),
            sampler=option.sampler,
            seed=seed,
            encode_ms=0.0,
            sample_ms=self._run_s * 1e3,
        )

    def _steps(self, option: SampleOptions) -> int:
        """The network evaluations that a policy of this contract would make."""
        sampler = self.spec.sampler
        if sampler is None:
            return 1
        return sampler.train_steps if option.sampler == "ddpm" else option.ddim_steps or sampler.default_steps
