"""The validation loss: averaged weights on held-out episodes, under noise that is the same at every epoch."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
import torch

from policy.networks.network import PolicyNetwork
from policy.spec import PolicySpec
from trainer.auxiliary import Auxiliary
from trainer.loader import Samples
from trainer.losses import compute_losses, draw_corruption, to_example
from trainer.parallel import Processes

_BATCH = 64


@dataclass(frozen=True)
class Validation:
    """What was found on held-out episodes."""

    loss: float  # of the actions
    position_errors: np.ndarray  # float64 [P], mean error of each auxiliary position, in its own unit
    loss_without_sensors: float = math.nan  # of the actions, all sensors masked; NaN where not asked for


@torch.no_grad()
def validate(
    network: PolicyNetwork,
    spec: PolicySpec,
    samples: Samples,
    auxiliary: Auxiliary,
    *,
    draws: int,
    seed: int,
    limit: int,
    bf16: bool,
    without_sensors: bool = False,
    processes: Processes | None = None,
) -> Validation:
    """Judge `network` on up to `limit` of the samples, with what they have of sensors.

    Args:
        without_sensors: judge it a second time with every sensor masked.
        processes: those that share the work, all of which are told the result.
    """
    processes = processes or Processes(next(network.parameters()).device)
    device = next(network.parameters()).device
    losses, blind, errors, weight = 0.0, 0.0, np.zeros(len(auxiliary.names)), 0.0
    limit = min(len(samples), limit)
    chosen = np.random.default_rng([seed, 2]).permutation(len(samples))[:limit]
    for start in range(processes.rank * _BATCH, limit, processes.count * _BATCH):
        rows = np.sort(chosen[start : start + _BATCH])
        example = to_example(samples.batch(rows), spec, auxiliary.index, auxiliary.stats, device)
        corruption = draw_corruption(
            torch.Generator().manual_seed(start), len(rows), draws, spec, prefix_probability=0.0,
            state_noise=0.0, state_dropout=0.0,
        ).to(device)  # fmt: skip
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            found = compute_losses(network, spec, example, corruption)
            if without_sensors and spec.sensors:
                masked = dataclasses.replace(
                    corruption, sensor_known=torch.zeros_like(corruption.sensor_known)
                )
                blind += float(compute_losses(network, spec, example, masked).action) * len(rows)
            if auxiliary.names:
                encoder = network.encoder
                guess = encoder.locate(encoder.see(example.images, example.tokens)).float()
                errors += (guess - example.auxiliary).abs().sum(0).cpu().numpy()
        losses += float(found.action) * len(rows)
        weight += len(rows)
    losses, blind, weight, *summed = processes.total([losses, blind, weight, *errors.tolist()])
    errors = np.asarray(summed)
    if auxiliary.stats is not None:
        errors *= np.asarray(auxiliary.stats.std)
    told = blind / weight if without_sensors and spec.sensors else math.nan
    return Validation(losses / weight, errors / weight, told)
