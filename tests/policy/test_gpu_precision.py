"""On a GPU products are made in full precision: asked for, since no card is needed to ask."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from unittest.mock import MagicMock

import pytest
import torch

from policy.runtimes import onnx
from policy.runtimes.torch_device import serving_device


def test_every_session_of_onnx_runtime_is_asked_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = MagicMock()
    both = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    runtime.get_available_providers.return_value = both
    runtime.InferenceSession.return_value.get_providers.return_value = both
    runtime.InferenceSession.return_value.get_inputs.return_value = []
    monkeypatch.setattr(onnx, "import_onnxruntime", lambda: runtime)
    onnx.OnnxBackend(Path("bundle"), ("see", "fuse", "denoise"), "cuda", None)
    asked = [call.args[2][0] for call in runtime.InferenceSession.call_args_list]
    assert len(asked) == 3
    assert all(name == "CUDAExecutionProvider" and given["use_tf32"] == "0" for name, given in asked)


@pytest.fixture
def tf32() -> Iterator[None]:
    """Allowed, and afterwards as it was."""
    places = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [place.allow_tf32 for place in places]
    for place in places:
        place.allow_tf32 = True
    yield
    for place, allowed in zip(places, before, strict=True):
        place.allow_tf32 = allowed


@pytest.mark.usefixtures("tf32")
def test_so_is_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert serving_device("auto", None).type == "cuda"
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32
