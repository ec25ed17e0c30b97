"""Sensors in training: windows dropped so that the policy learns to do without, and samples with data weighed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def shown_sensors(sensors: Sequence[Tensor], known: Tensor) -> list[tuple[Tensor, Tensor]]:
    """What the network is shown of each sensor.

    Args:
        sensors: windows [B, T, C] and masks [B, T] in turn.
        known: float32 [B, S], 0 where a sensor's whole window is masked.

    Returns:
        Per sensor the window and its mask, 0 throughout where the window is dropped.
    """
    pairs = zip(sensors[::2], sensors[1::2], strict=True)
    return [(window, mask * known[:, i : i + 1]) for i, (window, mask) in enumerate(pairs)]


def sample_weights(sensed: Sequence[tuple[Tensor, Tensor]], sensor_loss_weight: float) -> Tensor | float:
    """float32 [B]: `sensor_loss_weight` for samples shown any sensor data, 1 for the others, over the batch's mean.

    Samples whose windows were dropped are shown none. 1.0 for policies without sensors.
    """
    if not sensed:
        return 1.0
    present = torch.cat([mask for _, mask in sensed], 1).amax(1)
    weight = 1 + (sensor_loss_weight - 1) * present
    return weight / weight.mean()
