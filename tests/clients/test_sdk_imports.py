"""What a robot's computer has to load for the SDKs: NumPy, MessagePack and the transport, nothing more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = {"clients", "policy", "service"}


def loaded_by(code: str) -> set[str]:
    """The top-level packages, the standard library's aside, that a fresh interpreter has after `code`."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return {name.partition(".")[0] for name in done.stdout.split()} - set(sys.stdlib_module_names)


@pytest.mark.parametrize(
    ("module", "transport"),
    [("clients.http", "httpx"), ("clients.zmq", "zmq, zmq.asyncio"), ("clients.connect", "numpy")],
)
def test_an_sdk_loads_numpy_messagepack_and_its_transport_alone(module: str, transport: str) -> None:
    needed = loaded_by(f"import numpy, msgpack, {transport}")
    assert loaded_by(f"import {module}") - needed - OURS == set()


def test_a_heavier_import_would_be_seen() -> None:
    assert "pydantic" in loaded_by("import clients.http, policy.spec") - loaded_by(
        "import numpy, msgpack, httpx"
    )


def test_the_receiver_loads_recording_viewing_and_drawing_only_when_asked_to() -> None:
    heavy = {"rerun", "pyarrow", "matplotlib", "av", "onnxruntime"}
    assert loaded_by("import clients.realtime_receiver, clients.session") & heavy == set()
