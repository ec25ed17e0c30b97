"""ONNX Runtime sessions on buffers that stay where they are: what its CUDA graphs need."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from policy.runtimes.captured import CapturedDenoiser

log = logging.getLogger(__name__)

# By default it multiplies in TF32, which is some 1e-3 off in an action: more than a golden pair may be.
CUDA = ("CUDAExecutionProvider", {"use_tf32": "0"})
_NO_GRAPH = "-1"  # gpu_graph_id of a run that is not to be recorded


def cuda_denoiser(ort: Any, path: str, options: Any) -> Callable[..., np.ndarray]:
    """The sampling step on a GPU: as CUDA graphs, or launched kernel by kernel where it cannot be recorded."""
    try:
        provider = (CUDA[0], {**CUDA[1], "enable_cuda_graph": "1"})
        session = ort.InferenceSession(path, options, [provider, "CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has no exception type of its own for it
        log.warning("%s runs without CUDA graphs: %.200s", path, error)
        session = ort.InferenceSession(path, options, [CUDA, "CPUExecutionProvider"])
        return lambda *arrays: run_plain(ort, session, arrays)
    count = iter(range(1, 1_000_000))  # ids of recordings; 0 is ONNX Runtime's own
    return CapturedDenoiser(
        lambda arrays: OnnxReplay(ort, session, arrays, "cuda", str(next(count))),
        lambda *arrays: run_plain(ort, session, arrays),
        of_one_thread=True,
    )


def run_plain(ort: Any, session: Any, arrays: Sequence[np.ndarray]) -> np.ndarray:
    """One run that is not recorded."""
    options = ort.RunOptions()
    options.add_run_config_entry("gpu_graph_id", _NO_GRAPH)
    names = [node.name for node in session.get_inputs()]
    return session.run(None, dict(zip(names, arrays, strict=True)), options)[0]


class OnnxReplay:
    """A session bound to buffers that stay where they are; see `policy.runtimes.captured.Replay`.

    On a GPU the session records its first run under `graph_id` and replays it afterwards. The output has the shape
    of the first input, as denoising does.
    """

    def __init__(
        self, ort: Any, session: Any, arrays: Sequence[np.ndarray], device: str, graph_id: str
    ) -> None:
        self._session = session
        self._buffers = [ort.OrtValue.ortvalue_from_numpy(array, device, 0) for array in arrays]
        self._output = ort.OrtValue.ortvalue_from_shape_and_type(arrays[0].shape, np.float32, device, 0)
        self._binding = session.io_binding()
        for node, buffer in zip(session.get_inputs(), self._buffers, strict=True):
            self._binding.bind_ortvalue_input(node.name, buffer)
        self._binding.bind_ortvalue_output(session.get_outputs()[0].name, self._output)
        self._options = ort.RunOptions()
        self._options.add_run_config_entry("gpu_graph_id", graph_id)

    def run(self, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        """See `policy.runtimes.captured.Replay`."""
        for buffer, array in zip(self._buffers, inputs, strict=True):
            if array is not None:
                buffer.update_inplace(array)
        self._session.run_with_iobinding(self._binding, self._options)
        # A copy, also where the buffer lies in this process: the next run writes over it.
        return np.array(self._output.numpy())
