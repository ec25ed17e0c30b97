"""The whole policy network: `encode` once per observation, `denoise` once per sampling step."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from policy.networks.backbone.encoder import BackboneEncoder
from policy.networks.config import NetworkConfig
from policy.networks.encoder import ObservationEncoder
from policy.networks.init import initialize
from policy.networks.trunk import Trunk
from policy.spec import PolicySpec


class PolicyNetwork(nn.Module):
    """Encoder and trunk. A regression policy is the same network, asked once with an empty chunk.

    Args:
        backbone_copy: where a bundle would keep its own copy of the backbone, for policies that have one.
    """

    def __init__(self, spec: PolicySpec, config: NetworkConfig, backbone_copy: Path | None = None) -> None:
        super().__init__()
        self.config = config
        self.encoder: ObservationEncoder | BackboneEncoder
        if spec.backbone is None:
            self.encoder = ObservationEncoder(spec, config)
        else:
            self.encoder = BackboneEncoder(spec, config, backbone_copy)
        self.trunk = Trunk(spec.action.dim, spec.horizon, config, padded_context=spec.backbone is not None)
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

        images uint8 [B, V, H, W, 3]; tokens int64 [B, L] of `policy.text.text_encoder`; state float32 [B, D],
        normalised; then per sensor a normalised window [B, T, C] and its mask [B, T].
        """
        seen = self.encoder.see(images, tokens)
        known = torch.ones_like(state[:, :1]) if state_known is None else state_known
        pairs = list(zip(sensors[::2], sensors[1::2], strict=True))
        return self.encoder.fuse(seen, state, known, pairs)

    def denoise(self, chunk: Tensor, timestep: Tensor, prefix_length: Tensor, context: Tensor) -> Tensor:
        """See `Trunk.forward`."""
        return self.trunk(chunk, timestep, prefix_length, context)
