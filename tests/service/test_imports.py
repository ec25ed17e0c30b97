"""A server pulls in no torch, no simulator and no client; the wire pulls in no web framework."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import pytest

import service


def modules(prefix: str = "service.") -> list[str]:
    return [module.name for module in pkgutil.walk_packages(service.__path__, prefix)]


def loaded_by(names: list[str]) -> set[str]:
    """The top-level packages that a fresh interpreter has after importing `names`."""
    code = f"import sys, importlib; [importlib.import_module(n) for n in {names!r}]; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_the_server_needs_no_torch_no_simulator_and_no_client() -> None:
    names = modules()
    assert "service.wire.zmq_frames" in names
    assert "service.serve" in names
    forbidden = {"torch", "mujoco", "metaworld", "gymnasium", "transformers", "clients", "trainer"}
    assert loaded_by(names) & forbidden == set()


@pytest.mark.parametrize("framework", ["fastapi", "starlette", "uvicorn", "zmq", "prometheus_client"])
def test_the_wire_needs_no_framework(framework: str) -> None:
    names = [name for name in modules() if name.startswith("service.wire")]
    assert framework not in loaded_by(names)
