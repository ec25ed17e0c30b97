"""Exponential moving average of the weights: what is evaluated and exported."""

from __future__ import annotations

import copy

import torch
from torch import nn


class EMA:
    """Average with a warm-up, so that early steps do not remember the initialisation."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self._decay = decay

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Take in the weights after optimiser step `step` (from 1)."""
        decay = min(self._decay, (1 + step) / (10 + step))
        averaged, current = list(self.module.parameters()), [p.detach() for p in module.parameters()]
        torch._foreach_lerp_(averaged, current, 1 - decay)
