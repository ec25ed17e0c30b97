"""Compact ResNet with GroupNorm for one or several cameras: keypoints where things are, pooled features what they are.

Keypoints are read at a quarter of the image's resolution: a goal marker is a few pixels wide and would be gone in the
stride-32 maps of a standard ResNet.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from policy.networks.init import zero_init


class GroupNorm(nn.GroupNorm):
    """GroupNorm that stays in bfloat16 under autocast, which would widen it and halve the throughput."""

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype == torch.float32:
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            return F.group_norm(x, self.num_groups, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps)


class ResidualBlock(nn.Module):
    """conv - relu - conv - norm, FiLM where a condition is given, plus the input."""

    def __init__(self, inputs: int, outputs: int, stride: int, condition_dim: int | None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm = GroupNorm(8, outputs)
        self.film = None if condition_dim is None else zero_init(nn.Linear(condition_dim, 2 * outputs))
        same = inputs == outputs and stride == 1
        self.skip: nn.Module = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        h = self.norm(self.conv2(F.relu(self.conv1(x))))
        if self.film is None:
            return F.relu(h + self.skip(x))
        scale, shift = self.film(condition)[:, :, None, None].chunk(2, 1)
        return F.relu(torch.addcmul(shift + self.skip(x), h, 1 + scale))


class SpatialSoftmax(nn.Module):
    """Expected image position of each map's probability mass (Levine et al., 2016), and how peaked it is."""

    def forward(self, logits: Tensor) -> Tensor:
        """[B, K, H, W] -> [B, 3 K]: x, y in [-1, 1] and the largest probability's square root."""
        batch, maps, height, width = logits.shape
        probability = logits.float().flatten(2).softmax(-1)
        by_row = probability.view(batch, maps, height, width)
        ys = torch.linspace(-1, 1, height, device=logits.device)
        xs = torch.linspace(-1, 1, width, device=logits.device)
        y = (by_row.sum(3) * ys).sum(2)
        x = (by_row.sum(2) * xs).sum(2)
        return torch.cat([x, y, probability.amax(-1).sqrt()], 1)


class VisionEncoder(nn.Module):
    """Images [N, 3, H, W] in [-1, 1] and a condition [N, C] (instruction and camera) -> features [N, out_dim]."""

    def __init__(
        self, widths: tuple[int, ...], blocks_per_stage: int, keypoints: int, condition_dim: int
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, widths[0], 8, 4, 2)
        self.stages = nn.ModuleList()
        inputs = widths[0]
        for stage, outputs in enumerate(widths):
            blocks = nn.ModuleList()
            for block in range(blocks_per_stage):
                stride = 2 if stage > 0 and block == 0 else 1
                # Once per stage is enough to steer it; FiLM costs as much as the normalisation.
                steered = condition_dim if block == blocks_per_stage - 1 else None
                blocks.append(ResidualBlock(inputs, outputs, stride, steered))
                inputs = outputs
            self.stages.append(blocks)
        self.to_maps = nn.ModuleList(nn.Conv2d(width, keypoints, 1) for width in widths)
        self.keypoints = SpatialSoftmax()
        self.out_dim = 3 * keypoints + widths[-1]

    def forward(self, images: Tensor, condition: Tensor) -> Tensor:
        x = F.relu(self.stem(images))
        levels = []
        for blocks in self.stages:
            for block in blocks:  # type: ignore[attr-defined]
                x = block(x, condition)
            levels.append(x)
        # Coarse levels say what to look for, the fine one where exactly it is.
        maps = self.to_maps[0](levels[0])
        for level, to_map in zip(levels[1:], list(self.to_maps)[1:], strict=True):
            size = (maps.shape[2], maps.shape[3])
            maps = maps + F.interpolate(to_map(level), size=size, mode="bilinear", align_corners=False)
        return torch.cat([self.keypoints(maps), levels[-1].float().mean((2, 3))], 1)
