"""Which torch device a backend runs on, and getting arrays onto it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from policy.errors import UsageError


def torch_device(device: str, threads: int | None) -> torch.device:
    """`auto` is CUDA where there is one; sets torch's thread count when asked to."""
    if threads:
        torch.set_num_threads(threads)
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("device cuda: this torch sees no CUDA device; use --device cpu")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)


def to_tensors(arrays: Sequence[np.ndarray], device: torch.device) -> list[torch.Tensor]:
    """Arrays as tensors on `device`, sharing memory where that is the processor."""
    return [torch.from_numpy(np.ascontiguousarray(array)).to(device) for array in arrays]
