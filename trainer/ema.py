"""Exponential moving average of the weights: what is evaluated and exported."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


class EMA(Generic[Network]):
    """Average with a warm-up, so that early steps do not remember the initialisation."""

    def __init__(self, module: Network, decay: float) -> None:
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self._decay = decay

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Take in the weights after optimiser step `step` (from 1)."""
        decay = min(self._decay, (1 + step) / (10 + step))
        averaged: list[Tensor] = [p.detach() for p in self.module.parameters()]
        current = [p.detach() for p in module.parameters()]
        torch._foreach_lerp_(averaged, current, 1 - decay)
