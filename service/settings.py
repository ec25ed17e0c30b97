"""The settings of `tinyvla serve`: flags, and the same names as TINYVLA_... in the environment; flags win."""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from policy.errors import UsageError

DEFAULT_BUNDLE = Path(__file__).resolve().parents[1] / "bundles" / "metaworld8"
_FALSE = ("", "0", "false", "no", "off")


@dataclass(frozen=True)
class ServeSettings:
    """Serve a policy bundle over HTTP and ZeroMQ.

    Every flag may also be given in the environment: --max-batch as TINYVLA_MAX_BATCH, and so on.
    """

    bundle: Annotated[tuple[Path, ...], tyro.conf.UseAppendAction] = ()
    """Policy bundle (a directory); default: the bundle that came with TinyVLA."""
    host: str = "127.0.0.1"
    """Address of both doors. On any but loopback a token is required, and made when none is given."""
    port: int = 8000
    """HTTP port; 0 takes a free one."""
    zmq_port: int = 5570
    """ZeroMQ port; 0 takes a free one."""
    token: str | None = None
    """Bearer token of both doors."""
    runtime: Literal["auto", "onnx", "torchscript", "eager"] = "auto"
    """What runs the policy."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where it runs."""
    max_batch: int = 8
    """Requests that may share one run."""
    queue_size: int = 64
    """Requests that may wait; more are refused as overloaded."""
    threads: int | None = None
    """Threads of one run; default: the runtime's own choice."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """What is worth a line."""
    null: bool = False
    """Serve a policy without a network, for measuring transport; --bundle is then not read."""
    null_run_ms: float = 0.0
    """Milliseconds that a run of the null policy takes."""


def read_settings(argv: Sequence[str], environ: Mapping[str, str] = os.environ) -> ServeSettings:
    """Flags over environment over defaults.

    Raises:
        UsageError: a flag or variable that does not read, in one line.
        SystemExit: after `--help`.
    """
    base = ServeSettings()
    for variable, flags in _from_environment(environ).items():
        base = _parse(flags, base, prefix=f"{variable}: ")
    # Appending flags would add to the environment's bundles instead of winning over them.
    settings = _parse(argv, replace(base, bundle=()), prefix="")
    settings = replace(settings, bundle=settings.bundle or base.bundle or (DEFAULT_BUNDLE,))
    _check(settings)
    return settings


def _from_environment(environ: Mapping[str, str]) -> dict[str, list[str]]:
    """Variable -> the flags it stands for; an empty variable is one that is not set."""
    found: dict[str, list[str]] = {}
    for item in fields(ServeSettings):
        variable, flag = f"TINYVLA_{item.name.upper()}", "--" + item.name.replace("_", "-")
        value = environ.get(variable, "")
        if item.type == "bool":
            if value.lower() not in _FALSE:
                found[variable] = [flag]
        elif value:
            values = value.split(os.pathsep) if item.name == "bundle" else [value]
            found[variable] = [f"{flag}={value}" for value in values]
    return found


def _parse(argv: Sequence[str], default: ServeSettings, *, prefix: str) -> ServeSettings:
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(ServeSettings, prog="tinyvla serve", args=list(argv), default=default)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise UsageError(prefix + _one_line(complaint.getvalue())) from None


def _one_line(panel: str) -> str:
    """The first paragraph of tyro's framed complaint."""
    inside = [line.strip("│ ").strip() for line in panel.splitlines() if line.startswith("│")]
    paragraph: list[str] = []
    for line in inside:
        if re.fullmatch("─+", line):
            break
        paragraph.append(line)
    return (" ".join(paragraph) or " ".join(panel.split())) + "; see tinyvla serve --help"


def _check(settings: ServeSettings) -> None:
    if len(settings.bundle) > 1:
        raise UsageError(f"--bundle: one policy is served at a time, but {len(settings.bundle)} were given")
    for name, low, high in (
        ("port", 0, 65535),
        ("zmq_port", 0, 65535),
        ("max_batch", 1, 4096),
        ("queue_size", 1, 1_000_000),
        ("threads", 1, 4096),
        ("null_run_ms", 0, 3_600_000),
    ):
        value = getattr(settings, name)
        if value is not None and not low <= value <= high:
            raise UsageError(f"--{name.replace('_', '-')}: expected {low} ... {high}, got {value}")
