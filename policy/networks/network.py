"""The whole policy network: `encode` once per observation, `denoise` once per sampling step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from policy.networks.config import NetworkConfig
from policy.networks.encoder import ObservationEncoder
from policy.networks.init import initialize
from policy.networks.trunk import Trunk
from policy.spec import PolicySpec


class PolicyNetwork(nn.Module):
    """Encoder and trunk. A regression policy is the same network, asked once with an empty chunk."""

    def __init__(self, spec: PolicySpec, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = ObservationEncoder(spec, config)
        self.trunk = Trunk(spec.action.dim, spec.horizon, config)
        initialize(self)

    def encode(
        self,
        images: Tensor,
        tokens: Tensor,
        state: Tensor,
        *sensors: Tensor,
        state_known: Tensor | None = None,
    ) -> Tensor:
        """Observation -> context tokens [B, M, D].

        images uint8 [B, V, H, W, 3]; tokens int64 [B, L]; state float32 [B, D], normalised; then per sensor a
        normalised window [B, T, C] and its mask [B, T].
        """
        seen = self.encoder.see(images, tokens)
        known = torch.ones_like(state[:, :1]) if state_known is None else state_known
        pairs = list(zip(sensors[::2], sensors[1::2], strict=True))
        return self.encoder.fuse(seen, state, known, pairs)

    def denoise(self, chunk: Tensor, timestep: Tensor, prefix_length: Tensor, context: Tensor) -> Tensor:
        """See `Trunk.forward`."""
        return self.trunk(chunk, timestep, prefix_length, context)
