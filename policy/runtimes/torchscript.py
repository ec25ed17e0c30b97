"""TorchScript backend: traced code from the bundle, weights from its safetensors file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from policy.runtimes.torch_device import serving_device, to_tensors
from policy.runtimes.torch_replay import Function, denoiser


class TorchScriptBackend:
    """Runs a bundle's `.pt` graphs, which hold code and no weights; see `OnnxBackend` for which they are."""

    name = "torchscript"

    def __init__(self, directory: Path, graphs: Sequence[str], device: str, threads: int | None) -> None:
        self.splits = "fuse" in graphs
        self._device = serving_device(device, threads)
        self.device = self._device.type
        weights = load_file(directory / "model.safetensors", device=str(self._device))
        self._graphs = {name: self._load(directory / f"{name}.pt", weights) for name in graphs}
        self._denoise = denoiser(self._graphs["denoise"], self._device)

    def _load(self, path: Path, weights: dict[str, torch.Tensor]) -> Function:
        extra = {"weights.json": ""}
        code = torch.jit.load(str(path), map_location=self._device, _extra_files=extra)
        return partial(code, tuple(weights[name].float() for name in json.loads(extra["weights.json"])))

    @torch.inference_mode()
    def _run(self, graph: str, arrays: Sequence[np.ndarray]) -> np.ndarray:
        return self._graphs[graph](*to_tensors(arrays, self._device)).cpu().numpy()

    def see(self, images: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """See `policy.loaded.Backend`."""
        return self._run("see", [images, tokens])

    def fuse(self, seen: np.ndarray, state: np.ndarray, sensors: Sequence[np.ndarray]) -> np.ndarray:
        """See `policy.loaded.Backend`."""
        return self._run("fuse", [seen, state, *sensors])

    def encode(
        self, images: np.ndarray, tokens: np.ndarray, state: np.ndarray, sensors: Sequence[np.ndarray]
    ) -> np.ndarray:
        """See `policy.loaded.Backend`."""
        return self._run("encode", [images, tokens, state, *sensors])

    def denoise(
        self, chunk: np.ndarray, timestep: np.ndarray, prefix_length: np.ndarray, context: np.ndarray
    ) -> np.ndarray:
        """See `policy.loaded.Backend`."""
        return self._denoise(chunk, timestep, prefix_length, context)
