"""What of the system tests and demo need: proven to work, installed where it does not and may be, else named."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from policy.errors import UsageError


@dataclass(frozen=True)
class Need:
    """What has to work, and what helps where it does not."""

    what: str  # such as "offscreen rendering"
    complaint: Callable[[], str | None]  # None when it works, else why not, in one line
    install_lines: tuple[str, ...]  # tried in order until it works; each may be pasted into a terminal
    hint: str = ""  # added to the refusal


def may_run(line: str) -> bool:
    """Whether an install line can do its work here without asking anyone: apt-get wants root and Debian."""
    return not line.startswith("apt-get") or (os.geteuid() == 0 and shutil.which("apt-get") is not None)


def run_line(line: str) -> None:
    """Run an install line; what it says of errors goes to the terminal."""
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    if line.startswith("apt-get"):
        # A list that cannot be fetched need not be one that the packages come from.
        subprocess.run(["apt-get", "update", "-qq"], env=environment, check=False)
    subprocess.run(line.split(), env=environment, stdout=subprocess.DEVNULL, check=False)


def ensure(
    need: Need, *, allowed: Callable[[str], bool] = may_run, install: Callable[[str], None] = run_line
) -> None:
    """Return once `need` has no complaint, after those of its install lines that are `allowed`.

    Raises:
        UsageError: it does not work; the message holds the lines that help.
    """
    said = need.complaint()
    for line in need.install_lines:
        if said is None or not allowed(line):
            continue
        print(f"no {need.what} yet ({said}); running: {line}", flush=True)
        install(line)
        said = need.complaint()
    if said is not None:
        ways = ", or: ".join(
            f"as root: {line}" if line.startswith("apt") else line for line in need.install_lines
        )
        raise UsageError(f"no {need.what}: {said}{need.hint}; run {ways}")
