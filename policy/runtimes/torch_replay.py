"""One recorded run of a torch function: a CUDA graph on a GPU, the plain call elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from policy.runtimes.captured import CapturedDenoiser
from policy.runtimes.torch_device import to_tensors

Function = Callable[..., torch.Tensor]


def denoiser(function: Function, device: torch.device) -> Callable[..., np.ndarray]:
    """`policy.loaded.Backend.denoise` of a trunk: replayed on a GPU, where launching would bound it."""

    @torch.inference_mode()
    def plain(*arrays: np.ndarray) -> np.ndarray:
        return function(*to_tensors(arrays, device)).cpu().numpy()

    if device.type != "cuda":
        return plain
    return CapturedDenoiser(lambda arrays: TorchReplay(function, arrays, device), plain)


class TorchReplay:
    """See `policy.runtimes.captured.Replay`."""

    @torch.inference_mode()
    def __init__(self, function: Function, arrays: Sequence[np.ndarray], device: torch.device) -> None:
        self._buffers = [tensor.clone() for tensor in to_tensors(arrays, device)]
        self._function = function
        self._graph = torch.cuda.CUDAGraph() if device.type == "cuda" else None
        if self._graph is None:
            return
        # What is lazily made (libraries' handles, compiled code) must exist before recording, on a side stream:
        # https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
        side = torch.cuda.Stream(device)
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            for _ in range(3):
                function(*self._buffers)
        torch.cuda.current_stream(device).wait_stream(side)
        # thread_local: another policy may be served by its own thread meanwhile.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._output = function(*self._buffers)

    @torch.inference_mode()
    def run(self, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        """See `policy.runtimes.captured.Replay`."""
        for buffer, array in zip(self._buffers, inputs, strict=True):
            if array is not None:
                buffer.copy_(torch.from_numpy(array))
        if self._graph is None:
            self._output = self._function(*self._buffers)
        else:
            self._graph.replay()
        return self._output.cpu().numpy()
