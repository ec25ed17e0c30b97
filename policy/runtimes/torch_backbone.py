"""A backbone in torch that sees for a head which runs on any runtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from policy.loaded import Backend
from policy.networks.backbone.files import BUNDLED
from policy.networks.backbone.model import open_backbone
from policy.runtimes.torch_device import serving_device, to_tensors
from policy.spec import PolicySpec

_ADAPTERS = "encoder.lora."


class BackboneBackend(Backend):
    """`see` by the backbone with the bundle's adapters, everything else by `head`."""

    splits = True

    def __init__(
        self, directory: Path, spec: PolicySpec, head: Backend, device: str, threads: int | None
    ) -> None:
        self.name = head.name
        self._head = head
        self._device = serving_device(device, threads)
        self.device = self._device.type
        self._backbone = open_backbone(spec, directory / BUNDLED)
        weights = load_file(directory / "model.safetensors", device=str(self._device))
        self._adapters = {
            name.removeprefix(_ADAPTERS): nn.Parameter(tensor.float(), requires_grad=False)
            for name, tensor in weights.items()
            if name.startswith(_ADAPTERS)
        }

    @torch.inference_mode()
    def see(self, images: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """See `policy.loaded.Backend`."""
        pictures, texts = to_tensors([images, tokens], self._device)
        return self._backbone.look(pictures, texts, self._adapters).cpu().numpy()

    def fuse(self, seen: np.ndarray, state: np.ndarray, sensors: Sequence[np.ndarray]) -> np.ndarray:
        """See `policy.loaded.Backend`."""
        return self._head.fuse(seen, state, sensors)

    def denoise(
        self, chunk: np.ndarray, timestep: np.ndarray, prefix_length: np.ndarray, context: np.ndarray
    ) -> np.ndarray:
        """See `policy.loaded.Backend`."""
        return self._head.denoise(chunk, timestep, prefix_length, context)
