"""Denoising in a few fixed batch sizes, each recorded once and replayed from then on.

On a GPU a small network's step is bound by launching its kernels one by one; a CUDA graph launches them all at once,
but has fixed shapes and addresses. So batches are padded to the next power of two, and the context, which stays the
same through all steps of a chunk, is put on the device once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

LARGEST = 64  # rows; larger batches keep the device busy without a graph


class Replay(Protocol):
    """A recorded run with buffers of its own."""

    def run(self, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        """Copy the inputs in (None keeps what is there), run, and copy the output out."""
        ...


class CapturedDenoiser:
    """`policy.loaded.Backend.denoise` by replaying.

    Args:
        record: (chunk, timestep, prefix_length, context) of the size to record -> the recording.
        plain: runs any size without a recording.
        largest: rows; larger batches are not recorded.
        of_one_thread: a recording is good only on the thread that made it, as ONNX Runtime's are. A policy is loaded by
            one thread and served by another, which then records anew.
    """

    def __init__(
        self,
        record: Callable[[Sequence[np.ndarray]], Replay],
        plain: Callable[..., np.ndarray],
        largest: int = LARGEST,
        of_one_thread: bool = False,
    ) -> None:
        self._record, self._plain, self._largest = record, plain, largest
        self._of_one_thread, self._thread = of_one_thread, threading.get_ident()
        self._replays: dict[int, Replay] = {}
        self._held: dict[int, np.ndarray] = {}  # size -> the context whose values its recording holds

    def __call__(
        self, chunk: np.ndarray, timestep: np.ndarray, prefix_length: np.ndarray, context: np.ndarray
    ) -> np.ndarray:
        rows = len(chunk)
        size = padded_size(rows)
        if size > self._largest:
            return self._plain(chunk, timestep, prefix_length, context)
        if self._of_one_thread and self._thread != threading.get_ident():
            self._thread = threading.get_ident()
            self._replays.clear()
            self._held.clear()
        inputs: list[np.ndarray | None] = [pad_rows(a, size) for a in (chunk, timestep, prefix_length)]
        if size not in self._replays:
            given = [array for array in inputs if array is not None]
            self._replays[size] = self._record([*given, pad_rows(context, size)])
        # Compared by identity and kept alive, so that a new context can never be taken for the one held.
        new = self._held.get(size) is not context
        self._held[size] = context
        return self._replays[size].run([*inputs, pad_rows(context, size) if new else None])[:rows]


def padded_size(rows: int) -> int:
    """The next power of two."""
    return 1 << (rows - 1).bit_length()


def pad_rows(array: np.ndarray, size: int) -> np.ndarray:
    """`array` with its last row repeated up to `size` rows, contiguous."""
    missing = size - len(array)
    if missing:
        array = np.concatenate([array, np.repeat(array[-1:], missing, axis=0)])
    return np.ascontiguousarray(array)
