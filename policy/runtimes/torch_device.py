"""Which torch device a backend runs on, and getting arrays onto it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from policy.errors import UsageError


def torch_device(device: str, threads: int | None) -> torch.device:
    """`auto` is CUDA where there is one; sets torch's thread count when asked to.

    Raises:
        UsageError: a device that torch does not know, or CUDA where there is none.
    """
    if threads:
        torch.set_num_threads(threads)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(f"device {device}: this torch sees no CUDA device; use --device cpu")
    try:
        return torch.device(device)
    except RuntimeError:
        raise UsageError(f"--device {device}: no such device; use auto, cpu or cuda") from None


def serving_device(device: str, threads: int | None) -> torch.device:
    """`torch_device` for what draws chunks: in TF32 a GPU's products would put an action some 1e-3 off."""
    found = torch_device(device, threads)
    if found.type == "cuda":
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
    return found


def has_cuda() -> bool:
    """Whether torch sees a CUDA device."""
    return torch.cuda.is_available()


def to_tensors(arrays: Sequence[np.ndarray], device: torch.device) -> list[torch.Tensor]:
    """Arrays as tensors on `device`, sharing memory where that is the processor."""
    return [torch.from_numpy(np.ascontiguousarray(array)).to(device) for array in arrays]
