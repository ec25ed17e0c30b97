"""A Ray cluster to work on: found or started, told nobody of, and given this very code."""

from __future__ import annotations

import os
import secrets
import socket
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from policy.errors import UsageError

_ROOT = Path(__file__).resolve().parents[1]
_PACKAGES = ("policy", "service", "clients", "trainer")
# What decides how a frame is drawn, and on how many threads.
_ENVIRONMENT = ("MUJOCO_GL", "LP_NUM_THREADS", "OMP_NUM_THREADS", "ORT_DISABLE_TELEMETRY")
_Args = TypeVar("_Args", bound=Any)
# Results are a line each; Ray would take a third of the memory.
_OBJECT_STORE_BYTES = 100_000_000
_PATIENCE_S = 10.0


@dataclass(frozen=True)
class RayCluster:
    """Where to work, and what its machines must share."""

    address: (
        str  # as `ray start` prints it, `auto`, or `local`: one of this machine's own, while it is needed
    )
    shares: tuple[Path, ...] = ()  # absolute; files and directories that every machine must see

    @staticmethod
    def of(address: str | None, *shares: Path | None) -> RayCluster | None:
        """The cluster of `--ray`, or None without one; paths that are None are left out."""
        if address is None:
            return None
        return RayCluster(address, tuple(path.resolve() for path in shares if path is not None))


def with_absolute_paths(args: _Args) -> _Args:
    """A command's arguments as they mean the same in a process that was started elsewhere."""
    paths = {field.name: getattr(args, field.name) for field in fields(args)}
    return replace(args, **{name: path.resolve() for name, path in paths.items() if isinstance(path, Path)})


def _knock(address: str) -> None:
    """Raise OSError where nothing listens: Ray itself would go on trying for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), _PATIENCE_S).close()


def connect(cluster: RayCluster, processors: int | None) -> ModuleType:
    """Ray's module, connected; its workers get this code and this environment, whatever is installed there.

    Args:
        processors: that a cluster of this machine's own may use; None for all.

    Raises:
        UsageError: Ray is not installed, or nothing answers at that address.
    """
    # Both are read when Ray is imported: it reports its use to its makers unless told not to.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    local = cluster.address == "local"
    if local and "RAY_AUTH_MODE" not in os.environ:  # its ports are open to the network; a token closes them
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    try:
        import ray
    except ImportError:
        raise UsageError("--ray needs Ray; run: pip install -c constraints.txt -e '.[cluster]'") from None
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    code = {"py_modules": [str(_ROOT / name) for name in _PACKAGES], "env_vars": environment}
    quiet: dict[str, Any] = {"runtime_env": code, "log_to_driver": False, "logging_level": "ERROR"}
    try:
        if local:
            ray.init(
                address="local",
                num_cpus=processors,
                include_dashboard=False,
                object_store_memory=_OBJECT_STORE_BYTES,
                **quiet,
            )
        else:
            _knock(cluster.address)
            ray.init(address=cluster.address, **quiet)
    except (OSError, RuntimeError, ValueError) as error:
        why = str(error).strip().splitlines() or [type(error).__name__]
        raise UsageError(f"--ray {cluster.address}: no cluster to work on: {why[0]}") from None
    return ray
