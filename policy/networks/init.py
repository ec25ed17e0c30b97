"""Weight initialisation: small outputs at the start, so that a fresh model's loss is the data's own variance."""

from __future__ import annotations

from torch import nn


def initialize(module: nn.Module) -> None:
    """Xavier-uniform gain 0.5 on linear layers, Kaiming on convolutions, zero biases.

    Modules that end a residual branch, or the network, carry `zero_init = True` and start at exactly zero.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight, gain=0.5)
        elif isinstance(layer, nn.Conv1d | nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        elif isinstance(layer, nn.Embedding):
            nn.init.normal_(layer.weight, std=0.5)
        else:
            continue
        if getattr(layer, "zero_init", False):
            nn.init.zeros_(layer.weight)
        bias = getattr(layer, "bias", None)
        if bias is not None:
            nn.init.zeros_(bias)


def zero_init(layer: nn.Module) -> nn.Module:
    """Mark a layer to start at zero."""
    layer.zero_init = True  # type: ignore[assignment]
    return layer
