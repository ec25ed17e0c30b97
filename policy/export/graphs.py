"""The graphs of a policy as modules of their own: see and fuse once per observation, denoise once per step.

What was seen may be reused for several control steps, while state and sensors are fused in fresh: hence two graphs for
what the network's `encode` does in one.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from policy.networks.network import PolicyNetwork
from policy.spec import PolicySpec
from policy.text import MAX_TOKENS


class Graph(nn.Module):
    """A part of the network that is exported by itself."""

    weights: tuple[str, ...]  # prefixes of the parameters it uses
    output: str  # name of what it gives


class SeeGraph(Graph):
    """Cameras and instruction -> features; see `ObservationEncoder.see`."""

    weights = ("encoder.text.", "encoder.camera.", "encoder.vision.")
    output = "seen"

    def __init__(self, network: PolicyNetwork) -> None:
        super().__init__()
        self.encoder = network.encoder

    def forward(self, images: Tensor, tokens: Tensor) -> Tensor:
        return self.encoder.see(images, tokens)


class FuseGraph(Graph):
    """Features, state and sensors -> context; see `ObservationEncoder.fuse`."""

    weights = (
        "encoder.state.", "encoder.sensors.", "encoder.fusion.",
        # of a policy with a backbone
        "encoder.norm.", "encoder.projection.", "encoder.sensor_projections.", "encoder.kinds",
    )  # fmt: skip
    output = "context"

    def __init__(self, network: PolicyNetwork) -> None:
        super().__init__()
        self.encoder = network.encoder

    def forward(self, seen: Tensor, state: Tensor, *sensors: Tensor) -> Tensor:
        return self.encoder.fuse_known(seen, state, *sensors)


class DenoiseGraph(Graph):
    """Noisy chunk -> prediction; see `PolicyNetwork.denoise`."""

    weights = ("trunk.",)
    output = "output"

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


def see_inputs(spec: PolicySpec, batch: int) -> tuple[list[str], tuple[Tensor, ...]]:
    """Names and example values of what `SeeGraph` takes."""
    names, values = encode_inputs(spec, batch)
    return names[:2], values[:2]


def fuse_inputs(spec: PolicySpec, network: PolicyNetwork, batch: int) -> tuple[list[str], tuple[Tensor, ...]]:
    """Names and example values of what `FuseGraph` takes."""
    names, values = encode_inputs(spec, batch)
    return ["seen", *names[2:]], (torch.rand(batch, *network.encoder.seen_shape), *values[2:])


def denoise_inputs(
    spec: PolicySpec, network: PolicyNetwork, batch: int
) -> tuple[list[str], tuple[Tensor, ...]]:
    """Names and example values of the trunk's inputs."""
    config = network.config
    values = (
        torch.rand(batch, spec.horizon, spec.action.dim),
        torch.full((batch,), 3),
        torch.zeros(batch, dtype=torch.int64),
        torch.rand(batch, network.encoder.context_tokens, config.hidden_dim),
    )
    return ["chunk", "timestep", "prefix_length", "context"], values
