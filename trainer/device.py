"""What a training device is good at, and how much of its memory the run has taken."""

from __future__ import annotations

import resource
from pathlib import Path

import torch


def wants_bf16(precision: str, device: torch.device) -> bool:
    """bf16 only where it is fast: CUDA with support, or a CPU with AVX512-BF16 or AMX instructions."""
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    return "avx512_bf16" in flags or "amx_bf16" in flags


def peak_memory_mb(device: torch.device) -> float:
    """Peak memory: the device's where there is one, else the process's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
