"""Flags of a command from a dataclass; what does not read is one line."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import TypeVar

import tyro

from policy.errors import UsageError

Settings = TypeVar("Settings")


def parse_flags(kind: type[Settings], argv: Sequence[str], prog: str) -> Settings:
    """Parse the flags.

    Raises:
        UsageError: a flag that does not read, in one line.
        SystemExit: after `--help`.
    """
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(kind, prog=prog, args=list(argv))
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise UsageError(f"{_one_line(complaint.getvalue())}; see --help") from None


def _one_line(panel: str) -> str:
    """What stands behind the first ruled line of tyro's complaint, which is framed where it may be."""
    paragraph: list[str] = []
    ruled = False
    for line in panel.splitlines():
        if "──" in line or "----" in line:
            if paragraph:
                break
            ruled = True
        elif ruled and (text := line.strip("│| ")):
            paragraph.append(text)
    return " ".join(paragraph) or " ".join(panel.split())
