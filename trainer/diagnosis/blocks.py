"""Parameters grouped by the part of the network they belong to, and the gradients' norms by part."""

from __future__ import annotations

import re
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from trainer.shards import whole

# Layers that are repeated are told apart by their number; everything else by its first two levels.
_REPEATED = re.compile(r"(?:trunk\.blocks|encoder\.vision\.stages)\.\d+")


def block_of(name: str) -> str:
    """`trunk.blocks.2.mlp.0.weight` -> `trunk.blocks.2`; `encoder.text.mlp.0.bias` -> `encoder.text`."""
    repeated = _REPEATED.match(name)
    return repeated[0] if repeated else ".".join(name.split(".")[:2])


def by_block(named: Iterable[tuple[str, Tensor]]) -> dict[str, list[Tensor]]:
    """Tensors by block, in the network's own order."""
    blocks: dict[str, list[Tensor]] = {}
    for name, tensor in named:
        blocks.setdefault(block_of(name), []).append(tensor)
    return blocks


@torch.no_grad()
def gradient_norms(network: nn.Module) -> dict[str, float]:
    """Euclidean norm of each block's gradient; 0 where there is none."""
    blocks = by_block(network.named_parameters())
    norms = {}
    for name, parameters in blocks.items():
        gradients = [p.grad for p in parameters if p.grad is not None]
        norms[name] = float(whole(torch.nn.utils.get_total_norm(gradients))) if gradients else 0.0
    return norms
