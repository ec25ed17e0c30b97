"""A loaded policy: contract + backend + sampler, from observations to chunks in physical units."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from policy.normalize import from_unit, standardize, to_unit
from policy.observation import Observation, Prediction, SampleOptions, check_observation, check_options
from policy.predictor import batch_key
from policy.preprocess import fit_image
from policy.sampler import draw_chunks
from policy.spec import PolicySpec, SensorSpec
from policy.text import text_encoder


class Backend(Protocol):
    """Runs the graphs of a policy network. All arrays are normalised; batches may have any size."""

    name: str
    device: str
    splits: bool  # has `see` and `fuse`, so that what was seen may be reused; otherwise it has `encode`

    def see(self, images: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """uint8 [B, V, H, W, 3], int64 [B, L] -> features of cameras and instruction, float32 [B, ...]."""
        ...

    def fuse(self, seen: np.ndarray, state: np.ndarray, sensors: Sequence[np.ndarray]) -> np.ndarray:
        """What `see` gave, float32 [B, D], windows and masks in turn -> context [B, M, D]."""
        ...

    def encode(
        self, images: np.ndarray, tokens: np.ndarray, state: np.ndarray, sensors: Sequence[np.ndarray]
    ) -> np.ndarray:
        """`see` and `fuse` in one, where a bundle has one graph for both."""
        return self.fuse(self.see(images, tokens), state, sensors)

    def denoise(
        self, chunk: np.ndarray, timestep: np.ndarray, prefix_length: np.ndarray, context: np.ndarray
    ) -> np.ndarray:
        """float32 [B, H, A], int64 [B], int64 [B], context [B, M, D] -> float32 [B, H, A]."""
        ...


def sensor_input(sensor: SensorSpec, window: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """A window [T <= W, C] or nothing -> front-padded, normalisable [W, C] and its validity mask [W]."""
    padded = np.zeros((sensor.window, sensor.channels), np.float32)
    mask = np.zeros(sensor.window, np.float32)
    if window is not None and len(window):
        padded[-len(window) :] = window
        mask[-len(window) :] = 1.0
    return padded, mask


class LoadedPolicy:
    """The `Predictor` of a bundle. One thread owns it."""

    def __init__(self, spec: PolicySpec, backend: Backend, why: str = "") -> None:
        self.spec = spec
        self.runtime = backend.name
        self.device = backend.device
        self.why = why
        self.reuses_features = backend.splits
        self._backend = backend
        self._tokens_of = text_encoder(spec.backbone is not None)

    def predict(
        self,
        observations: Sequence[Observation],
        options: Sequence[SampleOptions],
        features: Sequence[np.ndarray | None] | None = None,
    ) -> list[Prediction]:
        """See `policy.predictor.Predictor.predict`."""
        spec = self.spec
        for observation, option in zip(observations, options, strict=True):
            check_observation(spec, observation)
            check_options(spec, option)
        if len({batch_key(spec, option) for option in options}) != 1:
            raise ValueError("requests of one run must share a batch_key")

        start = time.perf_counter()
        context, seen = self._encode(observations, features)
        encoded = time.perf_counter()

        counts = [option.samples for option in options]
        seeds = [_seed(option) for option in options]
        rngs, prefixes, temperatures = [], [], []
        for option, seed in zip(options, seeds, strict=True):
            prefix = None
            if option.prefix is not None and len(option.prefix):
                # Training shows the network none that leaves the data's range; the reply holds it as it came.
                prefix = to_unit(option.prefix, spec.normalization.action).clip(-1.0, 1.0)
            for sample in range(option.samples):
                rngs.append(np.random.Generator(np.random.Philox(key=[seed, sample])))
                prefixes.append(prefix)
                temperatures.append(self._temperature(option))
        repeated = np.repeat(context, counts, axis=0) if max(counts) > 1 else context
        kind, steps = self._sampling(options[0])
        drawn = draw_chunks(
            lambda chunk, timestep, length: self._backend.denoise(chunk, timestep, length, repeated),
            spec.sampler,
            kind,
            steps,
            rngs,
            prefixes,
            spec.horizon,
            spec.action.dim,
            temperatures,
        )
        sampled = time.perf_counter()

        results = []
        for row, (option, seed) in enumerate(zip(options, seeds, strict=True)):
            first = sum(counts[:row])
            actions, spread = self._chunk(drawn[first : first + option.samples], option)
            results.append(
                Prediction(
                    actions=actions,
                    uncertainty=spread,
                    ddim_steps=steps,
                    sampler=kind,
                    seed=seed,
                    encode_ms=1e3 * (encoded - start),
                    sample_ms=1e3 * (sampled - encoded),
                    features=None if seen is None else seen[row],
                )
            )
        return results

    def _encode(
        self, observations: Sequence[Observation], features: Sequence[np.ndarray | None] | None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Context tokens, and the features they were made from where the backend tells them."""
        state, sensors = self._sensed(observations)
        if not self._backend.splits:
            if features is not None and any(row is not None for row in features):
                raise ValueError("this bundle has no graph that takes features; reuses_features says so")
            return self._backend.encode(*self._pictured(observations), state, sensors), None
        rows = list(features) if features is not None else [None] * len(observations)
        fresh = [row for row, known in enumerate(rows) if known is None]
        if fresh:
            newly = self._see([observations[row] for row in fresh])
            for row, found in zip(fresh, newly, strict=True):
                rows[row] = found
        seen = np.stack([row for row in rows if row is not None])
        return self._backend.fuse(seen, state, sensors), seen

    def _see(self, observations: Sequence[Observation]) -> np.ndarray:
        """What the backend sees of each; a backbone is shown them one by one.

        In 16 bits it makes something else of a row that is padded to a longer one's length, or computed among more of
        them, and a chunk must not depend on what shares its run.
        """
        images, tokens = self._pictured(observations)
        if self.spec.backbone is None:
            return self._backend.see(images, tokens)
        rows = (slice(row, row + 1) for row in range(len(images)))
        return np.concatenate([self._backend.see(images[row], tokens[row]) for row in rows])

    def _pictured(self, observations: Sequence[Observation]) -> tuple[np.ndarray, np.ndarray]:
        """What `Backend.see` takes: images and tokens."""
        images = np.stack(
            [np.stack([fit_image(o.images[c.name], c) for c in self.spec.cameras]) for o in observations]
        )
        return images, np.stack([self._tokens_of(observation.instruction) for observation in observations])

    def _sensed(self, observations: Sequence[Observation]) -> tuple[np.ndarray, list[np.ndarray]]:
        """What must be fresh at every control step: state, sensor windows and their masks, normalised."""
        spec = self.spec
        state = to_unit(np.stack([o.state for o in observations]), spec.normalization.state)
        sensors: list[np.ndarray] = []
        for sensor in spec.sensors:
            pairs = [
                sensor_input(sensor, observation.sensors.get(sensor.name)) for observation in observations
            ]
            windows = np.stack([window for window, _ in pairs])
            mask = np.stack([valid for _, valid in pairs])
            sensors += [standardize(windows, spec.normalization.sensors[sensor.name]) * mask[..., None], mask]
        return state, sensors

    def _sampling(self, option: SampleOptions) -> tuple[str, int]:
        """(sampler, network evaluations) of a run."""
        sampler = self.spec.sampler
        if sampler is None:
            return option.sampler, 1
        if option.sampler == "ddpm":
            return "ddpm", sampler.train_steps
        return "ddim", option.ddim_steps or sampler.default_steps

    def _temperature(self, option: SampleOptions) -> float:
        """The policy's own for the one chunk to execute; several samples are asked for their spread, which is at 1."""
        sampler = self.spec.sampler
        return 1.0 if sampler is None or option.samples > 1 else sampler.temperature

    def _chunk(self, chunks: np.ndarray, option: SampleOptions) -> tuple[np.ndarray, np.ndarray | None]:
        """Mean of a request's normalised samples [S, H, A] in physical units, and their spread per step."""
        spec = self.spec
        actions = from_unit(chunks.mean(0), spec.normalization.action)
        actions = np.clip(
            actions, np.asarray(spec.action.low, np.float32), np.asarray(spec.action.high, np.float32)
        )
        if option.prefix is not None:
            actions[: len(option.prefix)] = option.prefix  # unchanged, to the bit
        spread = chunks.std(0).mean(-1).astype(np.float32) if option.samples > 1 else None
        return actions, spread


def _seed(option: SampleOptions) -> int:
    return option.seed if option.seed is not None else int(np.random.default_rng().integers(2**63))
