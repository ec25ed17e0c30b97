"""ONNX Runtime backend: the default, without torch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from policy.errors import UsageError


class OnnxBackend:
    """Runs `encode.onnx` and `denoise.onnx`."""

    name = "onnx"

    def __init__(self, directory: Path, device: str, threads: int | None) -> None:
        # ONNX Runtime reports its use to its maker from 1.29 on unless told not to; a robot's server must not.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        try:
            import onnxruntime as ort
        except ImportError:
            raise UsageError(
                "ONNX Runtime is not installed; run: pip install 'tinyvla[cpu]' (or [gpu])"
            ) from None
        has_cuda = "CUDAExecutionProvider" in ort.get_available_providers()
        providers = ["CPUExecutionProvider"]
        if has_cuda and device != "cpu":
            ort.preload_dlls()  # CUDA libraries that came as Python packages
            providers.insert(0, "CUDAExecutionProvider")
        options = ort.SessionOptions()
        if threads:
            options.intra_op_num_threads = threads
        # Spinning threads would take the core that the robot's control loop or the simulator needs.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self._encode = ort.InferenceSession(str(directory / "encode.onnx"), options, providers)
        self._denoise = ort.InferenceSession(str(directory / "denoise.onnx"), options, providers)
        # A build with CUDA falls back to the processor where there is no card.
        self.device = "cuda" if "CUDAExecutionProvider" in self._encode.get_providers() else "cpu"
        if device == "cuda" and self.device != "cuda":
            raise UsageError(
                "device cuda: ONNX Runtime found no CUDA device it can use; install tinyvla[gpu], or use --device cpu"
            )
        self._encode_inputs = [node.name for node in self._encode.get_inputs()]
        self._denoise_inputs = [node.name for node in self._denoise.get_inputs()]

    @staticmethod
    def _run(session: Any, names: Sequence[str], arrays: Sequence[np.ndarray]) -> np.ndarray:
        return session.run(None, dict(zip(names, arrays, strict=True)))[0]

    def encode(
        self, images: np.ndarray, tokens: np.ndarray, state: np.ndarray, sensors: Sequence[np.ndarray]
    ) -> np.ndarray:
        """See `policy.loaded.Backend`."""
        return self._run(self._encode, self._encode_inputs, [images, tokens, state, *sensors])

    def denoise(
        self, chunk: np.ndarray, timestep: np.ndarray, prefix_length: np.ndarray, context: np.ndarray
    ) -> np.ndarray:
        """See `policy.loaded.Backend`."""
        return self._run(self._denoise, self._denoise_inputs, [chunk, timestep, prefix_length, context])
