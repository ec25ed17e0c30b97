"""The settings of `tinyvla serve`: flags, and the same names as TINYVLA_... in the environment; flags win."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from policy.errors import UsageError
from service.flags import parse_flags

DEFAULT_BUNDLE = Path(__file__).resolve().parents[1] / "bundles" / "metaworld8"
# Of settings that may be given several times, in the environment.
_SEPARATORS = {"bundle": os.pathsep, "bundle_root": os.pathsep, "alias": ","}
_PROG = "tinyvla serve"
_FALSE = ("", "0", "false", "no", "off")


@dataclass(frozen=True)
class ServeSettings:
    """Serve a policy bundle over HTTP and ZeroMQ.

    Every flag may also be given in the environment: --max-batch as TINYVLA_MAX_BATCH, and so on.
    """

    bundle: Annotated[tuple[Path, ...], tyro.conf.UseAppendAction] = ()
    """Policy bundle (a directory), several times for several, the first of which is active; default: the one that came
    with TinyVLA, unless --watch is given."""
    bundle_root: Annotated[tuple[Path, ...], tyro.conf.UseAppendAction] = ()
    """Directory beneath which the admin token may load bundles; may be repeated. Default: none may be loaded so."""
    watch: Path | None = None
    """Directory whose bundles are served: loaded when they appear, swapped when they change; see docs/serving.md."""
    backbone_dir: Path | None = None
    """Directory with the directories of the vision-language models that bundles name, or one of these."""
    host: str = "127.0.0.1"
    """Address of all doors. On any but loopback a token is required, and made when none is given."""
    port: int = 8000
    """HTTP port; 0 takes a free one."""
    zmq_port: int = 5570
    """ZeroMQ port; 0 takes a free one."""
    groot_port: int | None = None
    """Port for GR00T's clients, usually 5555; 0 takes a free one; default: that door is left out."""
    token: str | None = None
    """Bearer token of all doors."""
    admin_token: str | None = None
    """Bearer token of who may load, activate and unload policies; default: nobody may."""
    alias: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """What another protocol's name means to the policy, such as observation/image=corner4; see docs/drop-in.md."""
    max_body_mb: int = 32
    """Largest HTTP body, WebSocket message or ZeroMQ frame, MiB; five raw 720p cameras fit the default."""
    tls_cert: Path | None = None
    """Certificate chain (PEM); with --tls-key it makes the HTTP port HTTPS."""
    tls_key: Path | None = None
    """The certificate's key (PEM, not encrypted)."""
    curve_key: Path | None = None
    """The server's .key_secret file; it makes the ZeroMQ port speak CURVE only. `tinyvla keys` makes one."""
    curve_clients: Path | None = None
    """Directory with the .key file of each robot that may connect with CURVE; default: who has the server's."""
    runtime: Literal["auto", "onnx", "torchscript", "eager"] = "auto"
    """What runs the policy."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where it runs."""
    max_batch: int = 8
    """Requests that may share one run."""
    max_wait_ms: float = 0.0
    """Milliseconds that a batch which is not full may wait for company."""
    queue_size: int = 64
    """Requests that may wait; more are refused as overloaded."""
    grace_s: float = 30.0
    """Seconds that queued work may take after SIGTERM or SIGINT."""
    threads: int | None = None
    """Threads of one run; default: the runtime's own choice."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """What is worth a line; debug tells every request."""
    log_format: Literal["text", "json"] = "text"
    """One line of text, or one JSON object a line, for who collects them."""
    null: bool = False
    """Serve a policy without a network, for measuring transport; --bundle is then not read."""
    null_contract: Path | None = None
    """With --null: file with the contract of the policy, as policy.json has it; default a camera and four actions."""
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
        try:
            base = parse_flags(ServeSettings, flags, _PROG, default=base)
        except UsageError as error:
            raise UsageError(f"{variable}: {error}") from None
    # Appending flags would add to the environment's values instead of winning over them.
    unlisted = replace(base, bundle=(), bundle_root=(), alias=())
    settings = parse_flags(ServeSettings, argv, _PROG, default=unlisted)
    default = () if settings.watch is not None else (DEFAULT_BUNDLE,)
    settings = replace(
        settings,
        bundle=settings.bundle or base.bundle or default,
        bundle_root=settings.bundle_root or base.bundle_root,
        alias=settings.alias or base.alias,
        # What comes from a file ends in a line break, which no header can carry.
        token=settings.token and settings.token.strip(),
        admin_token=settings.admin_token and settings.admin_token.strip(),
    )
    _check(settings)
    return settings


def _from_environment(environ: Mapping[str, str]) -> dict[str, list[str]]:
    """Variable -> the flags it stands for; an empty variable is one that is not set.

    Nor is a port that is an address: Kubernetes gives every pod TINYVLA_PORT=tcp://... of a service named tinyvla, and
    TINYVLA_ZMQ_PORT=tcp://... of one named tinyvla-zmq.
    """
    found: dict[str, list[str]] = {}
    for item in fields(ServeSettings):
        variable, flag = f"TINYVLA_{item.name.upper()}", "--" + item.name.replace("_", "-")
        value = environ.get(variable, "")
        if item.type == "bool":
            if value.lower() not in _FALSE:
                found[variable] = [flag]
        elif value and not (item.name.endswith("port") and value.startswith("tcp://")):
            separator = _SEPARATORS.get(item.name)
            # A separator at the end, as lists that were put together have, is followed by nothing.
            values = [value] if separator is None else [one for one in value.split(separator) if one.strip()]
            found[variable] = [f"{flag}={value}" for value in values]
    return found


def _check(settings: ServeSettings) -> None:
    for name, token in (("token", settings.token), ("admin-token", settings.admin_token)):
        if token == "":
            raise UsageError(
                f"--{name} is empty, which would let anybody in; give one, or leave the flag out"
            )
        if token is not None and not (token.isascii() and token.isprintable()):
            raise UsageError(f"--{name}: only printable ASCII can be sent in an HTTP header")
    for flag, directories in (
        ("--bundle-root", settings.bundle_root),
        ("--watch", (settings.watch,)),
        ("--backbone-dir", (settings.backbone_dir,)),
    ):
        for directory in directories:
            if directory is not None and not directory.is_dir():
                raise UsageError(f"{flag} {directory}: no such directory")
    for name, low, high in (
        ("port", 0, 65535),
        ("zmq_port", 0, 65535),
        ("groot_port", 0, 65535),
        ("max_body_mb", 1, 1024),
        ("max_batch", 1, 4096),
        ("max_wait_ms", 0, 60_000),
        ("queue_size", 1, 1_000_000),
        ("grace_s", 0, 3600),
        ("threads", 1, 4096),
        ("null_run_ms", 0, 3_600_000),
    ):
        value = getattr(settings, name)
        if value is not None and not low <= value <= high:
            raise UsageError(f"--{name.replace('_', '-')}: expected {low} ... {high}, got {value}")
