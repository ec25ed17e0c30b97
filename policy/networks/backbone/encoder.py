"""A vision-language backbone in place of the network's own eyes: its tokens, state and sensors as context."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from policy.networks.backbone.model import open_backbone
from policy.networks.config import NetworkConfig
from policy.networks.sensor import SensorEncoder
from policy.spec import PolicySpec


class BackboneEncoder(nn.Module):
    """Same interface as `ObservationEncoder`; every token it sees, the state and each sensor are a context token.

    A row of zeros is no token, in what was seen as in the context. The backbone's own weights are no part of it.
    """

    def __init__(self, spec: PolicySpec, config: NetworkConfig, copied: Path | None = None) -> None:
        super().__init__()
        assert spec.backbone is not None
        dim = config.hidden_dim
        self.seen_shape = (spec.backbone.tokens, spec.backbone.width)
        self.context_tokens = spec.backbone.tokens + 1 + len(spec.sensors)
        self.backbone = open_backbone(spec, copied)
        self.lora = nn.ParameterDict() if self.backbone.adapters is None else self.backbone.adapters.fresh()
        self.norm = nn.LayerNorm(spec.backbone.width)
        self.projection = nn.Linear(spec.backbone.width, dim)
        self.state = nn.Sequential(nn.Linear(spec.state.dim + 1, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.sensors = nn.ModuleList(SensorEncoder(sensor.channels) for sensor in spec.sensors)
        self.sensor_projections = nn.ModuleList(
            nn.Linear(encoder.out_dim, dim)  # type: ignore[arg-type]
            for encoder in self.sensors
        )
        # What kind of token it is: seen, state, or which sensor.
        self.kinds = nn.Parameter(torch.randn(2 + len(spec.sensors), dim) * 0.5)
        self.auxiliary = PositionReader(dim, max(1, len(config.auxiliary_targets)))

    def see(self, images: Tensor, tokens: Tensor) -> Tensor:
        """uint8 [B, V, H, W, 3] and the instruction as bytes [B, L] -> last hidden tokens, float32 [B, T, W]."""
        return self.backbone.look(images, tokens, dict(self.lora.items()))

    def fuse(
        self, seen: Tensor, state: Tensor, state_known: Tensor, sensors: list[tuple[Tensor, Tensor]]
    ) -> Tensor:
        """Tokens [B, T, W], normalised state [B, D], whether it is known [B, 1], sensor windows -> context tokens."""
        parts = [self._project(seen)]
        parts.append(
            (self.state(torch.cat([state * state_known, state_known], 1)) + self.kinds[1]).unsqueeze(1)
        )
        for number, (window, mask) in enumerate(sensors):
            sensed = self.sensor_projections[number](self.sensors[number](window, mask))
            parts.append((sensed + self.kinds[2 + number]).unsqueeze(1))
        return torch.cat(parts, 1)

    def fuse_known(self, seen: Tensor, state: Tensor, *sensors: Tensor) -> Tensor:
        """`fuse` as serving asks for it: the state is known, sensors are windows and masks in turn."""
        pairs = list(zip(sensors[::2], sensors[1::2], strict=True))
        return self.fuse(seen, state, torch.ones_like(state[:, :1]), pairs)

    def locate(self, seen: Tensor) -> Tensor:
        """Training only: privileged quantities [B, A] read off the tokens that say where."""
        return self.auxiliary(F.silu(self._project(seen)), is_token(seen))

    def _project(self, seen: Tensor) -> Tensor:
        return (self.projection(self.norm(seen)) + self.kinds[0]) * is_token(seen).unsqueeze(-1)


class PositionReader(nn.Module):
    """Attention pooling over tokens, then a small MLP."""

    def __init__(self, dim: int, outputs: int) -> None:
        super().__init__()
        self.score = nn.Linear(dim, 1)
        self.mlp = nn.Sequential(nn.Linear(dim, 128), nn.SiLU(), nn.Linear(128, outputs))

    def forward(self, tokens: Tensor, present: Tensor) -> Tensor:
        """[B, T, D] and bool [B, T] -> [B, outputs]."""
        score = self.score(tokens).float().masked_fill(~present.unsqueeze(-1), -torch.inf)
        return self.mlp((tokens * score.softmax(1)).sum(1))


def is_token(rows: Tensor) -> Tensor:
    """bool [B, N]: which rows of [B, N, D] are tokens, and not padding."""
    return (rows != 0).any(-1)
