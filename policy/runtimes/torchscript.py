"""TorchScript backend: traced code from the bundle, weights from its safetensors file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from policy.runtimes.torch_device import to_tensors, torch_device


class TorchScriptBackend:
    """Runs `encode.pt` and `denoise.pt`, which hold code and no weights."""

    name = "torchscript"

    def __init__(self, directory: Path, device: str, threads: int | None) -> None:
        self._device = torch_device(device, threads)
        self.device = self._device.type
        weights = load_file(directory / "model.safetensors", device=str(self._device))
        self._encode, self._encode_weights = self._load(directory / "encode.pt", weights)
        self._denoise, self._denoise_weights = self._load(directory / "denoise.pt", weights)

    def _load(
        self, path: Path, weights: dict[str, torch.Tensor]
    ) -> tuple[torch.jit.ScriptFunction, tuple[torch.Tensor, ...]]:
        extra = {"weights.json": ""}
        code = torch.jit.load(str(path), map_location=self._device, _extra_files=extra)
        return code, tuple(weights[name].float() for name in json.loads(extra["weights.json"]))

    @torch.inference_mode()
    def encode(
        self, images: np.ndarray, tokens: np.ndarray, state: np.ndarray, sensors: Sequence[np.ndarray]
    ) -> np.ndarray:
        """See `policy.loaded.Backend`."""
        inputs = to_tensors([images, tokens, state, *sensors], self._device)
        return self._encode(self._encode_weights, *inputs).cpu().numpy()

    @torch.inference_mode()
    def denoise(
        self, chunk: np.ndarray, timestep: np.ndarray, prefix_length: np.ndarray, context: np.ndarray
    ) -> np.ndarray:
        """See `policy.loaded.Backend`."""
        inputs = to_tensors([chunk, timestep, prefix_length, context], self._device)
        return self._denoise(self._denoise_weights, *inputs).cpu().numpy()
