"""The two graphs of a policy as modules of their own: encode once per observation, denoise once per step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from policy.networks.network import PolicyNetwork
from policy.spec import PolicySpec
from policy.text import MAX_TOKENS


class EncodeGraph(nn.Module):
    """Observation -> context; see `PolicyNetwork.encode`."""

    def __init__(self, network: PolicyNetwork) -> None:
        super().__init__()
        self.encoder = network.encoder

    def forward(self, images: Tensor, tokens: Tensor, state: Tensor, *sensors: Tensor) -> Tensor:
        seen = self.encoder.see(images, tokens)
        pairs = list(zip(sensors[::2], sensors[1::2], strict=True))
        return self.encoder.fuse(seen, state, torch.ones_like(state[:, :1]), pairs)


class DenoiseGraph(nn.Module):
    """Noisy chunk -> prediction; see `PolicyNetwork.denoise`."""

    def __init__(self, network: PolicyNetwork) -> None:
        super().__init__()
        self.trunk = network.trunk

    def forward(self, chunk: Tensor, timestep: Tensor, prefix_length: Tensor, context: Tensor) -> Tensor:
        return self.trunk(chunk, timestep, prefix_length, context)


def encode_inputs(spec: PolicySpec, batch: int) -> tuple[list[str], tuple[Tensor, ...]]:
    """Names and example values of the encoder's inputs."""
    camera = spec.cameras[0]
    names = ["images", "tokens", "state"]
    values = [
        torch.randint(0, 256, (batch, len(spec.cameras), camera.height, camera.width, 3), dtype=torch.uint8),
        torch.randint(1, 100, (batch, MAX_TOKENS)),
        torch.rand(batch, spec.state.dim),
    ]
    for sensor in spec.sensors:
        names += [sensor.name, f"{sensor.name}_mask"]
        values += [torch.rand(batch, sensor.window, sensor.channels), torch.ones(batch, sensor.window)]
    return names, tuple(values)


def denoise_inputs(
    spec: PolicySpec, network: PolicyNetwork, batch: int
) -> tuple[list[str], tuple[Tensor, ...]]:
    """Names and example values of the trunk's inputs."""
    config = network.config
    values = (
        torch.rand(batch, spec.horizon, spec.action.dim),
        torch.full((batch,), 3),
        torch.zeros(batch, dtype=torch.int64),
        torch.rand(batch, config.context_tokens, config.hidden_dim),
    )
    return ["chunk", "timestep", "prefix_length", "context"], values
