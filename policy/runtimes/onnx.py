"""ONNX Runtime backend: the default, without torch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from policy.errors import UsageError
from policy.runtimes.onnx_replay import CUDA, cuda_denoiser


def import_onnxruntime() -> Any:
    """The library, told to keep to itself; raises `UsageError` where it is not installed."""
    # ONNX Runtime reports its use to its maker from 1.29 on unless told not to; a robot's server must not.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError:
        raise UsageError(
            "ONNX Runtime is not installed; run: pip install -c constraints.txt -e '.[cpu]' (or [gpu])"
        ) from None
    return onnxruntime


class OnnxBackend:
    """Runs a bundle's `.onnx` graphs: `see`, `fuse` and `denoise`, `encode` and `denoise`, or without `see`."""

    name = "onnx"

    def __init__(self, directory: Path, graphs: Sequence[str], device: str, threads: int | None) -> None:
        ort = import_onnxruntime()
        self.splits = "fuse" in graphs
        options = session_options(ort, threads)
        use_cuda = device != "cpu" and "CUDAExecutionProvider" in ort.get_available_providers()
        if use_cuda:
            ort.preload_dlls()  # CUDA libraries that came as Python packages
        providers = [CUDA] * use_cuda + ["CPUExecutionProvider"]
        paths = {name: str(directory / f"{name}.onnx") for name in graphs}
        first = ort.InferenceSession(paths[graphs[0]], options, providers)
        # A build with CUDA falls back to the processor where there is no card.
        self.device = "cuda" if "CUDAExecutionProvider" in first.get_providers() else "cpu"
        if device == "cuda" and self.device != "cuda":
            raise UsageError(
                "device cuda: ONNX Runtime found no CUDA device it can use; install [gpu], or use --device cpu"
            )
        self._sessions = {graphs[0]: first}
        for name in graphs[1:]:
            if name != "denoise" or self.device != "cuda":
                self._sessions[name] = ort.InferenceSession(paths[name], options, providers)
        self._inputs = {
            name: [node.name for node in session.get_inputs()] for name, session in self._sessions.items()
        }
        # No closure over self: a policy that is unloaded must be freed at once, not when cycles are looked for.
        self._on_cuda = cuda_denoiser(ort, paths["denoise"], options) if self.device == "cuda" else None

    def _run(self, graph: str, arrays: Sequence[np.ndarray]) -> np.ndarray:
        return self._sessions[graph].run(None, dict(zip(self._inputs[graph], arrays, strict=True)))[0]

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
        if self._on_cuda is not None:
            return self._on_cuda(chunk, timestep, prefix_length, context)
        return self._run("denoise", [chunk, timestep, prefix_length, context])


def session_options(ort: Any, threads: int | None) -> Any:
    """What every session of this project runs with."""
    options = ort.SessionOptions()
    if threads:
        options.intra_op_num_threads = threads
    # Spinning threads would take the core that the robot's control loop or the simulator needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options
