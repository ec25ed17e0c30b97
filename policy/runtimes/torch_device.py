"""Which torch device a backend runs on."""

from __future__ import annotations

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
