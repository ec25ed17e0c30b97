"""Exponential moving average of the weights: what is evaluated and exported."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from trainer.shards import like_shard, whole

Network = TypeVar("Network", bound=nn.Module)


class EMA(Generic[Network]):
    """Average with a warm-up, so that early steps do not remember the initialisation."""

    def __init__(self, module: Network, decay: float) -> None:
        self._module = copy.deepcopy(module).eval().requires_grad_(False)
        self._decay = decay

    @property
    def module(self) -> Network:
        """The network with averaged weights."""
        return self._module

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take over the weights of an earlier run; before `spread`."""
        self._module.load_state_dict(tensors)

    def spread(self, module: nn.Module) -> None:
        """Keep the average as `module` keeps its weights now: whole, or in shards."""

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Take in the weights after optimiser step `step` (from 1)."""
        averaged: list[Tensor] = [p.detach() for p in self._module.parameters()]
        current = [p.detach() for p in module.parameters()]
        torch._foreach_lerp_(averaged, current, 1 - self._decay_at(step))

    def _decay_at(self, step: int) -> float:
        return min(self._decay, (1 + step) / (10 + step))


class ShardedEMA(EMA[Network]):
    """The average of a network that FSDP has spread: each process keeps the average of its shards."""

    def spread(self, module: nn.Module) -> None:
        pairs = zip(self._module.parameters(), module.parameters(), strict=True)
        self._shards = [like_shard(average, parameter.detach()) for average, parameter in pairs]

    @property
    @torch.no_grad()
    def module(self) -> Network:
        """The whole, put together now; every process must ask for it."""
        for average, sharded in zip(self._module.parameters(), self._shards, strict=True):
            average.copy_(whole(sharded))
        return self._module

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        local = [shard.to_local() for shard in self._shards]  # type: ignore[attr-defined]
        current = [p.detach().to_local() for p in module.parameters()]  # type: ignore[attr-defined]
        torch._foreach_lerp_(local, current, 1 - self._decay_at(step))
