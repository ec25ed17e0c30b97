"""Eager torch backend: the reference every exported graph is held against."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from policy.errors import UsageError
from policy.loaded import Backend
from policy.networks.backbone.files import BUNDLED
from policy.networks.config import NetworkConfig
from policy.networks.network import PolicyNetwork
from policy.runtimes.torch_device import serving_device, to_tensors
from policy.runtimes.torch_replay import denoiser
from policy.spec import PolicySpec


class EagerBackend(Backend):
    """Runs a `PolicyNetwork` as it is."""

    name = "eager"
    splits = True

    def __init__(self, network: PolicyNetwork, device: str = "auto", threads: int | None = None) -> None:
        self._device = serving_device(device, threads)
        self.device = self._device.type
        self._network = network.to(self._device).eval()
        self._denoise = denoiser(self._network.denoise, self._device)

    @classmethod
    def from_bundle(cls, directory: Path, spec: PolicySpec, device: str, threads: int | None) -> EagerBackend:
        """Rebuild the network from the spec and the 16-bit weights."""
        from safetensors.torch import load_file

        network = PolicyNetwork(spec, NetworkConfig.from_json(spec.network), directory / BUNDLED)
        weights = {
            name: tensor.float() for name, tensor in load_file(directory / "model.safetensors").items()
        }
        # The auxiliary head is training-only and not part of a bundle.
        missing, unexpected = network.load_state_dict(weights, strict=False)
        if unexpected or any(not name.startswith("encoder.auxiliary.") for name in missing):
            raise UsageError(
                f"{directory}: its weights do not fit the network this code builds (first misfit: "
                f"{[*unexpected, *missing][0]}); use --runtime onnx, or export it again"
            )
        return cls(network, device, threads)

    @torch.inference_mode()
    def see(self, images: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """See `policy.loaded.Backend`."""
        return self._network.encoder.see(*to_tensors([images, tokens], self._device)).cpu().numpy()

    @torch.inference_mode()
    def fuse(self, seen: np.ndarray, state: np.ndarray, sensors: Sequence[np.ndarray]) -> np.ndarray:
        """See `policy.loaded.Backend`."""
        return (
            self._network.encoder.fuse_known(*to_tensors([seen, state, *sensors], self._device)).cpu().numpy()
        )

    def denoise(
        self, chunk: np.ndarray, timestep: np.ndarray, prefix_length: np.ndarray, context: np.ndarray
    ) -> np.ndarray:
        """See `policy.loaded.Backend`."""
        return self._denoise(chunk, timestep, prefix_length, context)
