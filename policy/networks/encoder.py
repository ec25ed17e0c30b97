"""Everything the policy perceives, squeezed into a few context tokens for the trunk."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from policy.networks.config import NetworkConfig
from policy.networks.sensor import SensorEncoder
from policy.networks.vision import VisionEncoder
from policy.spec import PolicySpec
from policy.text import BUCKETS

_STATE_DIM = 64


class TextEncoder(nn.Module):
    """Mean of hashed-trigram embeddings, then a small MLP."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(BUCKETS, dim, padding_idx=0)
        self.mlp = nn.Sequential(nn.Linear(dim, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, tokens: Tensor) -> Tensor:
        """int64 [B, L] -> [B, dim]."""
        present = (tokens > 0).float().unsqueeze(-1)
        # Summed over sqrt(n): the sum of n independent trigrams keeps unit scale.
        summed = (self.embedding(tokens) * present).sum(1) / present.sum(1).clamp(min=1.0).sqrt()
        return self.mlp(summed)


class ObservationEncoder(nn.Module):
    """Cameras, state, instruction and sensors -> [B, context_tokens, hidden_dim].

    The cameras share one ResNet, told apart by an embedding; instruction and camera steer it through FiLM.
    """

    def __init__(self, spec: PolicySpec, config: NetworkConfig) -> None:
        super().__init__()
        cameras = len(spec.cameras)
        self.context_tokens = config.context_tokens
        self.text = TextEncoder(config.text_dim)
        self.camera = nn.Embedding(cameras, config.text_dim)
        self.vision = VisionEncoder(
            config.vision_widths, config.blocks_per_stage, config.keypoints, 2 * config.text_dim
        )
        self.state = nn.Sequential(nn.Linear(spec.state.dim + 1, _STATE_DIM), nn.SiLU())
        self.sensors = nn.ModuleList(SensorEncoder(sensor.channels) for sensor in spec.sensors)
        seen = cameras * self.vision.out_dim + config.text_dim
        self.seen_shape = (seen,)
        sensed = sum(encoder.out_dim for encoder in self.sensors)  # type: ignore[misc]
        self.fusion = nn.Sequential(
            nn.Linear(seen + _STATE_DIM + sensed, config.fusion_dim),
            nn.SiLU(),
            nn.Linear(config.fusion_dim, config.context_tokens * config.hidden_dim),
        )
        self.auxiliary = nn.Sequential(
            nn.Linear(seen, 128), nn.SiLU(), nn.Linear(128, max(1, len(config.auxiliary_targets)))
        )

    def see(self, images: Tensor, tokens: Tensor) -> Tensor:
        """uint8 [B, V, H, W, 3] and int64 [B, L] -> visual and instruction features [B, F]."""
        batch, views, height, width, _ = images.shape
        text = self.text(tokens)
        pixels = images.reshape(batch * views, height, width, 3).permute(0, 3, 1, 2).float() / 127.5 - 1.0
        per_view = text.unsqueeze(1).expand(-1, views, -1)
        camera = self.camera.weight.unsqueeze(0).expand(batch, -1, -1)
        condition = torch.cat([per_view, camera], 2).reshape(batch * views, -1)
        return torch.cat([self.vision(pixels, condition).reshape(batch, -1), text], 1)

    def fuse(
        self, seen: Tensor, state: Tensor, state_known: Tensor, sensors: list[tuple[Tensor, Tensor]]
    ) -> Tensor:
        """Features [B, F], normalised state [B, D], whether it is known [B, 1], sensor windows -> context tokens."""
        parts = [seen, self.state(torch.cat([state * state_known, state_known], 1))]
        parts += [encode(window, mask) for encode, (window, mask) in zip(self.sensors, sensors, strict=True)]
        fused = self.fusion(torch.cat(parts, 1))
        return fused.reshape(fused.shape[0], self.context_tokens, -1)

    def fuse_known(self, seen: Tensor, state: Tensor, *sensors: Tensor) -> Tensor:
        """`fuse` as serving asks for it: the state is known, sensors are windows and masks in turn."""
        pairs = list(zip(sensors[::2], sensors[1::2], strict=True))
        return self.fuse(seen, state, torch.ones_like(state[:, :1]), pairs)

    def locate(self, seen: Tensor) -> Tensor:
        """Training only: privileged quantities [B, A] predicted from what was seen."""
        return self.auxiliary(F.silu(seen))
