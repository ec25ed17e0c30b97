"""How much memory of the policies' devices is in use: of the processor this process's own, of a GPU everybody's."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

Probe = Callable[[], float]  # bytes, whenever it is asked


def memory_probes(device: str) -> Mapping[str, Probe]:
    """What can be asked of a device: `used` and `total`; nothing where nobody can tell.

    Args:
        device: `cpu`, `cuda` or `cuda:1`, as policies name it.
    """
    kind, _, index = device.partition(":")
    if kind == "cpu":
        return {"used": _resident, "total": _installed}
    if kind == "cuda":
        return _gpu(int(index) if index.isdigit() else 0)
    return {}


def _resident() -> float:
    with open("/proc/self/statm", encoding="ascii") as statm:
        return float(int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE"))


def _installed() -> float:
    return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


def _gpu(index: int) -> Mapping[str, Probe]:
    try:
        import pynvml  # comes with the extra `gpu`

        pynvml.nvmlInit()
        handle = _handle(pynvml, index)
    except Exception:  # not installed, no driver, or no such device: there is nothing to tell
        return {}

    def ask(what: str) -> Probe:
        return lambda: float(getattr(pynvml.nvmlDeviceGetMemoryInfo(handle), what))

    return {"used": ask("used"), "total": ask("total")}


def _handle(nvml: Any, index: int) -> Any:
    """CUDA counts only the devices that it may see, the driver counts all of them."""
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    name = visible[index] if index < len(visible) else str(index)
    return (
        nvml.nvmlDeviceGetHandleByIndex(int(name)) if name.isdigit() else nvml.nvmlDeviceGetHandleByUUID(name)
    )
