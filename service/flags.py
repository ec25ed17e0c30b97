"""Flags of a command from a dataclass; what does not read is one line."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import TypeVar

import tyro

from policy.errors import UsageError

Settings = TypeVar("Settings")


def parse_flags(
    kind: type[Settings],
    argv: Sequence[str],
    prog: str,
    *,
    default: Settings | None = None,
    description: str | None = None,
) -> Settings:
    """Parse the flags.

    Args:
        default: what flags that are not given stay at; None goes by the class.
        description: of the command, for `--help`; None takes the class's docstring.

    Raises:
        UsageError: a flag that does not read, in one line.
        SystemExit: after `--help`.
    """
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(
                kind,
                prog=prog,
                args=list(argv),
                description=description,
                default=tyro.MISSING_NONPROP if default is None else default,
            )
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise UsageError(f"{_one_line(complaint.getvalue())}; see {prog} --help") from None


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
