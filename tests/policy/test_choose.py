"""Which runtime and device a policy gets, and that the reason is told."""

from __future__ import annotations

import subprocess
import sys

import pytest

from policy.bundle import load_bundle
from policy.errors import UsageError
from policy.runtimes.choose import Machine, choose
from service.settings import DEFAULT_BUNDLE

BOTH = ("onnx", "torchscript")
PLAIN = Machine(onnx=True, onnx_cuda=False, torch=True, torch_cuda=False)
ONNX_GPU = Machine(onnx=True, onnx_cuda=True, torch=True, torch_cuda=True)
TORCH_GPU = Machine(onnx=True, onnx_cuda=False, torch=True, torch_cuda=True)
NO_ONNX = Machine(onnx=False, onnx_cuda=False, torch=True, torch_cuda=False)
NOTHING = Machine(onnx=False, onnx_cuda=False, torch=False, torch_cuda=False)


@pytest.mark.parametrize(
    ("runtime", "device", "exported", "machine", "chosen", "on", "why"),
    [
        ("auto", "auto", BOTH, PLAIN, "onnx", "auto", "no GPU"),
        ("auto", "cpu", BOTH, ONNX_GPU, "onnx", "cpu", "--device cpu"),
        ("auto", "auto", BOTH, ONNX_GPU, "onnx", "auto", "built for CUDA"),
        ("auto", "auto", BOTH, TORCH_GPU, "torchscript", "cuda", "torch reaches the GPU"),
        ("auto", "auto", ("onnx",), TORCH_GPU, "eager", "cuda", "torch reaches the GPU"),
        ("auto", "auto", BOTH, NO_ONNX, "torchscript", "auto", "not installed"),
        ("auto", "auto", ("torchscript",), PLAIN, "torchscript", "auto", "no ONNX graphs"),
        ("auto", "auto", (), PLAIN, "eager", "auto", "no ONNX graphs"),
        ("auto", "auto", BOTH, NOTHING, "onnx", "auto", "neither is torch"),
        ("auto", "cuda", BOTH, PLAIN, "onnx", "cuda", "no GPU"),  # which the runtime then refuses
        ("eager", "cuda", BOTH, ONNX_GPU, "eager", "cuda", "--runtime eager"),
        ("torchscript", "auto", BOTH, PLAIN, "torchscript", "auto", "--runtime torchscript"),
    ],
)
def test_what_is_chosen_and_why(runtime, device, exported, machine, chosen, on, why):
    found = choose(runtime, device, exported, machine)
    assert (found.runtime, found.device) == (chosen, on)
    assert why in found.why


def test_looking_at_the_machine_does_not_import_torch():
    code = (
        "import sys; from policy.runtimes.choose import this_machine; found = this_machine('auto');"
        "assert found.torch_cuda or 'torch' not in sys.modules, found"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_loaded_policy_tells_why(bundles):
    from policy.bundle import load_bundle

    assert "--device cpu" in load_bundle(bundles("diffusion"), "auto", "cpu", threads=1).why
    assert "--runtime eager" in load_bundle(bundles("diffusion"), "eager", "cpu", threads=1).why


@pytest.mark.parametrize("runtime", ["torchscript", "eager"])
def test_a_runtime_that_is_not_installed_is_told_with_the_extra_that_brings_it(monkeypatch, runtime):
    monkeypatch.delitem(sys.modules, f"policy.runtimes.{runtime}", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UsageError, match=rf"the {runtime} runtime needs torch, which.*\.\[train\]"):
        load_bundle(DEFAULT_BUNDLE, runtime, "cpu")
