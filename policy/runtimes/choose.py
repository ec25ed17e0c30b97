"""Which runtime and device a policy gets under `--runtime auto`, and the reason in words."""

from __future__ import annotations

import importlib.util
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

RUNTIMES = ("onnx", "torchscript", "eager")


@dataclass(frozen=True)
class Machine:
    """What there is to run a policy with."""

    onnx: bool  # ONNX Runtime is installed
    onnx_cuda: bool  # in a build for CUDA
    torch: bool
    torch_cuda: bool  # and torch sees a card


@dataclass(frozen=True)
class Choice:
    """A runtime, the device to ask it for, and why."""

    runtime: str
    device: str
    why: str


def choose(runtime: str, device: str, exported: Collection[str], machine: Machine) -> Choice:
    """ONNX Runtime unless torch alone can reach a GPU that may be used, or it is missing.

    Args:
        runtime: auto, or the one that was asked for, which is taken.
        device: auto, cpu or cuda.
        exported: the runtimes a bundle has files for.
    """
    if runtime != "auto":
        return Choice(runtime, device, f"--runtime {runtime} asks for it")
    torch_runtime = "torchscript" if "torchscript" in exported else "eager"
    if "onnx" not in exported or not machine.onnx:
        missing = "the bundle has no ONNX graphs" if machine.onnx else "ONNX Runtime is not installed"
        if machine.torch:
            return Choice(torch_runtime, device, missing)
        return Choice("onnx", device, f"{missing}, and neither is torch")
    if device == "cpu":
        return Choice("onnx", device, "the default on --device cpu")
    if machine.onnx_cuda:
        return Choice("onnx", device, "ONNX Runtime is built for CUDA")
    if machine.torch_cuda:
        return Choice(torch_runtime, "cuda", "torch reaches the GPU, this build of ONNX Runtime does not")
    return Choice("onnx", device, "the default where there is no GPU to use")


def this_machine(device: str) -> Machine:
    """What is installed here. torch is imported only where a card is there that ONNX Runtime cannot use."""
    onnx, torch = _installed("onnxruntime"), _installed("torch")
    onnx_cuda = False
    if onnx and device != "cpu":
        from policy.runtimes.onnx import import_onnxruntime

        onnx_cuda = "CUDAExecutionProvider" in import_onnxruntime().get_available_providers()
    torch_cuda = False
    if torch and device != "cpu" and not onnx_cuda and _has_card():
        from policy.runtimes.torch_device import has_cuda

        torch_cuda = has_cuda()
    return Machine(onnx, onnx_cuda, torch, torch_cuda)


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ValueError:  # stands in sys.modules as None: somebody forbids it
        return False


def _has_card() -> bool:
    """A driver's device file, which is cheaper to look for than importing torch; the second is WSL's."""
    return any(Path(file).exists() for file in ("/dev/nvidiactl", "/dev/dxg"))
