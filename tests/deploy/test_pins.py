"""Everything that an install brings is declared and pinned, and a server or the demo brings no torch."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
OURS = {"policy", "service", "clients", "trainer", "tinyvla"}
INSTALLED_HERE = ("cpu", "sim", "train", "vlm", "viz", "cluster", "dev")  # what `make test` installs


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def asked(extras: Iterable[str]) -> list[Requirement]:
    return [Requirement(text) for text in PROJECT["dependencies"] + [t for e in extras for t in EXTRAS[e]]]


def brought(wanted: list[Requirement]) -> set[str]:
    """Names of all distributions that come with these requirements, read from what is installed."""
    found: set[str] = set()
    waiting = list(wanted)
    while waiting:
        one = waiting.pop()
        name = canonicalize_name(one.name)
        if name in found:
            continue
        found.add(name)
        try:
            needs = distribution(name).requires or []
        except PackageNotFoundError:
            pytest.fail(f"{name} is not installed; run: make test")
        for need in map(Requirement, needs):
            extras = one.extras or {""}
            if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(need)
    return found


def test_every_pin_is_exact() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    wrong = [line for line in lines if line and not re.fullmatch(r"#.*|[a-z0-9-]+==[0-9][0-9a-z.]*", line)]
    assert wrong == []


def test_everything_that_is_installed_is_pinned() -> None:
    assert brought(asked(INSTALLED_HERE)) - pins().keys() == set()


def test_everything_that_is_declared_is_pinned() -> None:
    assert {canonicalize_name(one.name) for one in asked(EXTRAS)} - pins().keys() == set()


def test_both_builds_of_onnx_runtime_are_one_version() -> None:
    assert pins()["onnxruntime"] == pins()["onnxruntime-gpu"]


@pytest.mark.parametrize("extras", [("cpu",), ("cpu", "sim")])
def test_neither_a_server_nor_the_demo_brings_torch(extras: tuple[str, ...]) -> None:
    names = brought(asked(extras))
    assert {"numpy", "onnxruntime"} <= names
    assert not names & {"torch", "diffusers", "onnx"}


def test_a_server_brings_no_simulator() -> None:
    assert not brought(asked(["cpu"])) & {"mujoco", "metaworld", "gymnasium", "matplotlib", "av"}


def test_every_library_that_the_code_imports_is_declared() -> None:
    # It asks for NumPy 1, so no extra can name it; what needs it says how to install it.
    declared = {canonicalize_name(one.name) for one in asked(EXTRAS)} | {"openpi-client"}
    known = packages_distributions()
    missing = {
        f"{path.relative_to(ROOT)}: {top}"
        for package in ("policy", "service", "clients", "trainer")
        for path in (ROOT / package).rglob("*.py")
        for top in imported(path)
        if not declared & {canonicalize_name(name) for name in known.get(top, [top])}
    }
    assert missing == set()


def imported(path: Path) -> set[str]:
    """Top-level names of other people's libraries that a file imports, at any depth."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names - OURS - set(sys.stdlib_module_names)
