"""One training example's loss: noise, prefixes, masks and auxiliary targets. Pure functions of tensors and a seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from policy.networks.network import PolicyNetwork
from policy.normalize import standardize, to_unit
from policy.schedule import alphas_cumprod
from policy.spec import MeanStdStats, PolicySpec
from trainer.sensor_loss import sample_weights, shown_sensors
from trainer.windows import Batch


@dataclass(frozen=True)
class Example:
    """A batch on the device, normalised."""

    images: Tensor  # uint8 [B, V, H, W, 3]
    tokens: Tensor  # int64 [B, L]
    state: Tensor  # float32 [B, D]
    actions: Tensor  # float32 [B, H, A], in [-1, 1]
    executed: Tensor  # float32 [B, H, A], in [-1, 1], of which prefixes are made
    lead: Tensor  # int64 [B], actions that the prefix has to cover
    valid: Tensor  # bool [B, H]
    auxiliary: Tensor  # float32 [B, P], of zero mean and unit variance
    # Per sensor float32 windows [B, T, C], 0 where masked, then masks [B, T].
    sensors: tuple[Tensor, ...] = ()

    def to(self, device: torch.device | str) -> Example:
        """The same batch on another device."""
        moved = {name: value.to(device) for name, value in vars(self).items() if name != "sensors"}
        return Example(**moved, sensors=tuple(array.to(device) for array in self.sensors))


@dataclass(frozen=True)
class Corruption:
    """Everything random about one pass, drawn beforehand so that a pass can be repeated exactly."""

    timestep: Tensor  # int64 [B * draws]
    noise: Tensor  # float32 [B * draws, H, A]
    prefix_length: Tensor  # int64 [B * draws]
    prefix_offset: Tensor  # float32 [B * draws, 1, A], what the shown prefix is off by
    state_noise: Tensor  # float32 [B, D]
    state_known: Tensor  # float32 [B, 1]
    sensor_known: Tensor  # float32 [B, S], 0 where a sensor is not shown

    def to(self, device: torch.device) -> Corruption:
        """The same draws on another device."""
        return Corruption(**{name: value.to(device) for name, value in vars(self).items()})


def to_example(
    batch: Batch,
    spec: PolicySpec,
    auxiliary_index: np.ndarray,
    auxiliary_stats: MeanStdStats | None,
    device: torch.device,
) -> Example:
    """Normalise a batch with the very functions that serving uses."""
    targets = np.zeros((len(batch.state), 0), np.float32)
    if auxiliary_stats is not None:
        targets = standardize(batch.environment_state[:, auxiliary_index], auxiliary_stats)
    arrays = (
        batch.images,
        batch.tokens,
        to_unit(batch.state, spec.normalization.state),
        to_unit(batch.actions, spec.normalization.action),
        to_unit(batch.executed, spec.normalization.action),
        batch.lead,
        batch.valid,
        targets,
    )
    sensors: list[np.ndarray] = []
    pairs = zip(batch.sensors[::2], batch.sensors[1::2], strict=True)
    for sensor, (window, mask) in zip(spec.sensors, pairs, strict=True):
        sensors += [standardize(window, spec.normalization.sensors[sensor.name]) * mask[..., None], mask]

    def moved(array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device)

    images, tokens, state, actions, executed, lead, valid, auxiliary = map(moved, arrays)
    windows = tuple(map(moved, sensors))
    return Example(images, tokens, state, actions, executed, lead, valid, auxiliary, windows)


def draw_corruption(
    generator: torch.Generator,
    batch: int,
    draws: int,
    spec: PolicySpec,
    *,
    prefix_probability: float,
    state_noise: float,
    state_dropout: float,
    prefix_noise: float = 0.0,
    sensor_dropout: float = 0.0,
) -> Corruption:
    """Draw from `generator` alone.

    An expert's actions tell where it was going, so a policy that continues nothing else learns to read the goal off
    them instead of the images, and in serving believes its own mistakes. Prefixes are therefore what was executed,
    pushed or driven by a policy. Where a dataset does not have that, offsets on the prefix (`prefix_noise`, their
    standard deviation in normalised actions) help, at the price of where the hand will be when the prefix is over.
    """
    rows = batch * draws
    train_steps = spec.sampler.train_steps if spec.sampler else 1
    timestep = torch.randint(0, train_steps, (rows,), generator=generator)
    noise = torch.randn(rows, spec.horizon, spec.action.dim, generator=generator)
    # Short prefixes are the usual ones (latency is a few control steps), so the length is squared-uniform.
    length = (torch.rand(rows, generator=generator).square() * spec.max_prefix).ceil().long()
    has_prefix = torch.rand(rows, generator=generator) < prefix_probability
    return Corruption(
        timestep=timestep,
        noise=noise,
        prefix_length=length * has_prefix if spec.max_prefix else torch.zeros_like(length),
        state_noise=torch.randn(batch, spec.state.dim, generator=generator) * state_noise,
        state_known=(torch.rand(batch, 1, generator=generator) >= state_dropout).float(),
        prefix_offset=torch.randn(rows, 1, spec.action.dim, generator=generator) * prefix_noise,
        sensor_known=(torch.rand(batch, len(spec.sensors), generator=generator) >= sensor_dropout).float(),
    )


def prediction_target(prediction_type: str, clean: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    """What the network should output, by prediction type; `alpha_bar` broadcasts over the chunk."""
    if prediction_type == "sample":
        return clean
    if prediction_type == "epsilon":
        return noise
    return alpha_bar.sqrt() * noise - (1 - alpha_bar).sqrt() * clean


@dataclass(frozen=True)
class Pass:
    """One forward pass of a batch: what the trunk was given, what it should have said and what it said."""

    chunk: Tensor  # float32 [B * draws, H, A], the trunk's input
    target: Tensor  # float32 [B * draws, H, A]
    output: Tensor  # float32 [B * draws, H, A]
    counted: Tensor  # float32 [B * draws, H], 0 in prefixes and past the end of the episode
    auxiliary: Tensor  # scalar, mean squared error of the normalised positions; 0 without targets
    sensed: list[tuple[Tensor, Tensor]]  # per sensor the window [B, T, C] and the mask [B, T] that were shown


@dataclass(frozen=True)
class Losses:
    """Scalars of one pass."""

    action: Tensor  # mean squared error of the network's target, over actions that count
    auxiliary: Tensor  # mean squared error of the normalised positions; 0 without targets
    by_draw: Tensor  # float32 [B * draws], detached: the action loss of each draw, NaN where nothing counts


def run_pass(network: PolicyNetwork, spec: PolicySpec, example: Example, corruption: Corruption) -> Pass:
    """Perceive once, corrupt and denoise every draw."""
    draws = len(corruption.timestep) // len(example.state)
    seen = network.encoder.see(example.images, example.tokens)
    state = example.state + corruption.state_noise
    sensed = shown_sensors(example.sensors, corruption.sensor_known)
    context = network.encoder.fuse(seen, state, corruption.state_known, sensed)
    if example.auxiliary.shape[1]:
        auxiliary = F.mse_loss(network.encoder.locate(seen).float(), example.auxiliary)
    else:
        auxiliary = seen.new_zeros(())

    def repeated(x: Tensor) -> Tensor:
        return x.repeat_interleave(draws, 0)

    clean, valid, context = repeated(example.actions), repeated(example.valid), repeated(context)
    prefix, prefix_length = (
        repeated(example.executed),
        corruption.prefix_length.maximum(repeated(example.lead)),
    )
    index = torch.arange(spec.horizon, device=clean.device)
    is_prefix = index < prefix_length[:, None]
    if spec.sampler is None:
        chunk, target = torch.zeros_like(clean), clean
    else:
        alphas = torch.from_numpy(alphas_cumprod(spec.sampler.train_steps)).float().to(clean.device)
        alpha_bar = alphas[corruption.timestep][:, None, None]
        chunk = alpha_bar.sqrt() * clean + (1 - alpha_bar).sqrt() * corruption.noise
        target = prediction_target(spec.sampler.prediction_type, clean, corruption.noise, alpha_bar)
    chunk = torch.where(is_prefix[..., None], (prefix + corruption.prefix_offset).clamp(-1, 1), chunk)
    timestep = corruption.timestep if spec.sampler is not None else torch.zeros_like(corruption.timestep)
    output = network.denoise(chunk, timestep, prefix_length, context)
    return Pass(chunk, target, output, (valid & ~is_prefix).float(), auxiliary, sensed)


def compute_losses(
    network: PolicyNetwork,
    spec: PolicySpec,
    example: Example,
    corruption: Corruption,
    sensor_loss_weight: float = 1.0,
) -> Losses:
    """Forward pass of a batch; prefixes and padding are excluded from the action loss.

    Args:
        sensor_loss_weight: of samples that are shown sensor data, see `sample_weights`; 1 is the plain mean.
    """
    found = run_pass(network, spec, example, corruption)
    counted = found.counted
    error = (found.output - found.target).square().mean(-1) * counted
    weight = sample_weights(found.sensed, sensor_loss_weight)
    weighed = error.view(len(example.state), -1).sum(1) * weight
    return Losses(
        action=weighed.sum() / counted.sum().clamp(min=1.0),
        auxiliary=found.auxiliary,
        by_draw=error.detach().sum(1) / counted.sum(1),
    )
