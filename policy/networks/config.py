"""Sizes of the policy network; stored in the bundle as `PolicySpec.network`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class NetworkConfig:
    """Everything needed to rebuild a network besides the spec's own shapes."""

    vision_widths: tuple[int, ...] = (48, 96, 112)
    """Channels of the stages at 1/4, 1/8 and 1/16 of the image's resolution."""
    blocks_per_stage: int = 2
    keypoints: int = 32
    """Spatial-softmax maps per camera, at 1/4 resolution."""
    text_dim: int = 48
    hidden_dim: int = 192
    """Width of the trunk (DiT)."""
    layers: int = 4
    heads: int = 6
    mlp_ratio: int = 2
    context_tokens: int = 6
    """All modalities are squeezed through this many learned tokens before the trunk."""
    fusion_dim: int = 288
    actions_per_token: int = 4
    auxiliary_targets: tuple[str, ...] = field(default=())
    """Names of privileged quantities predicted from the images in training only."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> NetworkConfig:
        arguments: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**arguments)
