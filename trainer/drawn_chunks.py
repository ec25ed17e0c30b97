"""Chunks drawn for training samples, as the policy would act on them."""

from __future__ import annotations

import numpy as np
import torch

from policy.networks.network import PolicyNetwork
from policy.normalize import from_unit
from policy.runtimes.torch_device import to_tensors
from policy.sampler import draw_chunks
from policy.spec import PolicySpec
from trainer.losses import Example


@torch.no_grad()
def drawn_chunks(
    network: PolicyNetwork, spec: PolicySpec, example: Example, seed: int, temperature: float | None = None
) -> np.ndarray:
    """float32 [B, H, A], physical units, at the policy's own number of steps; `network` is in evaluation mode.

    Where a sample begins before its demonstration, what was executed until then is given as the prefix, as in training.

    Args:
        temperature: standard deviation of the starting noise, default the policy's own; 0 gives the one steady chunk.
    """
    context = network.encode(example.images, example.tokens, example.state, *example.sensors)

    def denoise(chunk: np.ndarray, timestep: np.ndarray, prefix_length: np.ndarray) -> np.ndarray:
        noisy, time, length = to_tensors([chunk, timestep, prefix_length], context.device)
        return network.denoise(noisy, time, length, context).float().cpu().numpy()

    rows = len(example.state)
    executed = example.executed.clamp(-1, 1).cpu().numpy()
    prefixes = [
        one[:lead] if lead else None for one, lead in zip(executed, example.lead.tolist(), strict=True)
    ]
    if temperature is None:
        temperature = spec.sampler.temperature if spec.sampler else 1.0
    chunks = draw_chunks(
        denoise, spec.sampler, "ddim", spec.sampler.default_steps if spec.sampler else 1,
        [np.random.default_rng([seed, row]) for row in range(rows)], prefixes, spec.horizon, spec.action.dim,
        [temperature] * rows,
    )  # fmt: skip
    return from_unit(chunks, spec.normalization.action)
