"""Which version of this code trains, as checkpoints and bundles record it."""

from __future__ import annotations

import subprocess
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
_UNKNOWN = "unknown"


def code_version(root: Path = _ROOT) -> str:
    """The commit of the checkout at `root`; `unknown` without git, and inside somebody else's checkout."""
    try:
        found = subprocess.run(
            ["git", "rev-parse", "--show-toplevel", "--short=12", "HEAD"],
            capture_output=True, text=True, cwd=root,
        )  # fmt: skip
    except OSError:  # no git on this machine
        return _UNKNOWN
    lines = found.stdout.splitlines()
    if found.returncode or len(lines) != 2 or Path(lines[0]).resolve() != root.resolve():
        return _UNKNOWN
    return lines[1]
