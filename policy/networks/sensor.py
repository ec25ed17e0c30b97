"""Encoder of a sensor window: 1-D convolutions, attention pooling, and a learned vector where the sensor is absent."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SensorEncoder(nn.Module):
    """Window [B, T, C] and validity mask [B, T] -> [B, out_dim]."""

    def __init__(self, channels: int, dim: int = 64) -> None:
        super().__init__()
        self.out_dim = dim
        self.conv1 = nn.Conv1d(channels + 1, dim, 5, 2, 2)
        self.conv2 = nn.Conv1d(dim, dim, 5, 2, 2)
        self.score = nn.Linear(dim, 1)
        self.absent = nn.Parameter(torch.zeros(dim))

    def forward(self, window: Tensor, mask: Tensor) -> Tensor:
        valid = mask.unsqueeze(1)
        x = torch.cat([window.transpose(1, 2) * valid, valid], 1)
        x = F.relu(self.conv2(F.relu(self.conv1(x)))).transpose(1, 2)  # [B, T/4, dim]
        weights = self.score(x).float().softmax(1)
        pooled = (x * weights).sum(1)
        present = mask.amax(1, keepdim=True)
        return pooled * present + self.absent * (1 - present)
