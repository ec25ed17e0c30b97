"""This machine's pip settings as a pip.conf and the paths it names, for a build in another root filesystem.

Where packages come from a mirror or a directory of this machine, a pip inside an image build must ask there too.
Mounted for the build only, neither the file nor a password in it becomes part of the image.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

# What says where packages come from; other settings are this machine's own business.
_KEPT = (
    "cert", "client-cert", "default-timeout", "extra-index-url", "find-links", "index-url", "no-index", "proxy",
    "retries", "timeout", "trusted-host",
)  # fmt: skip


@dataclass(frozen=True)
class PipSettings:
    """What to mount for pip."""

    conf: str  # contents of /etc/pip.conf
    paths: tuple[Path, ...]  # files and directories of this machine that `conf` names


def read_settings() -> PipSettings:
    """What `pip config list` of the running Python says."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    return parse_settings(listed.stdout.splitlines())


def parse_settings(listed: Iterable[str]) -> PipSettings:
    """Settings from lines such as `global.find-links='/opt/wheels'`; `:env:.` wins, as it does in pip."""
    chosen: dict[str, str] = {}
    from_environment: dict[str, str] = {}
    for line in listed:
        key, _, quoted = line.partition("=")
        section, _, name = key.rpartition(".")
        if name in _KEPT and section in ("global", "install", ":env:"):
            target = from_environment if section == ":env:" else chosen
            target[name] = str(ast.literal_eval(quoted))
    chosen |= from_environment
    lines = ["[global]", *(f"{name} = {' '.join(value.split())}" for name, value in sorted(chosen.items()))]
    words = [word for value in chosen.values() for word in value.split()]
    paths = sorted({path for word in words if (path := _local(word)) is not None})
    return PipSettings("\n".join(lines) + "\n", tuple(paths))


def _local(word: str) -> Path | None:
    """The path of this machine that has to be there for a setting to work, if it names one."""
    if word.startswith("file://"):
        # The pages of an index link to files beside it.
        index = Path(unquote(urlsplit(word).path))
        path = index.parent if len(index.parts) > 2 else index
    else:
        path = Path(word)
    return path if path.is_absolute() and path.exists() else None
