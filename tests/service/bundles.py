"""Bundles without a network, for everything that happens to bundles while a server runs."""

from __future__ import annotations

import json
import os
from pathlib import Path

from policy.errors import UsageError
from policy.null import NullPolicy
from policy.spec import PolicySpec


def write_fake(directory: Path, spec: PolicySpec, *, name: str | None = None, broken: str = "") -> PolicySpec:
    """A directory that `open_fake` reads; another `name` makes another policy."""
    spec = spec.model_copy(update={"name": name or directory.name})
    directory.mkdir(parents=True, exist_ok=True)
    temporary = directory / "policy.json.new"
    temporary.write_text(json.dumps({"spec": spec.model_dump(mode="json"), "broken": broken}))
    temporary.replace(directory / "policy.json")
    return spec


def touch(directory: Path, seconds: int) -> None:
    """Set the contract's time, which tells bundles that appear together apart."""
    os.utime(directory / "policy.json", (seconds, seconds))


def open_fake(path: Path) -> NullPolicy:
    """In place of `policy.bundle.load_bundle`; raises `UsageError` for a broken one."""
    stored = json.loads((path / "policy.json").read_text())
    if stored["broken"]:
        raise UsageError(f"{path}: {stored['broken']}")
    return NullPolicy(PolicySpec.model_validate(stored["spec"]))
