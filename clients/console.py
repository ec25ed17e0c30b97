"""Where commands print: as wide as the terminal, or wide enough for tables in a log or a pipe."""

from __future__ import annotations

from typing import Any

from rich.console import Console

# Columns of a log or a pipe, which have no width of their own; wide enough for the report.
PLAIN_WIDTH = 120


def make_console() -> Console:
    """The standard output. What is printed is text as it is: instructions, paths and errors may have brackets."""
    as_it_is: dict[str, Any] = {"highlight": False, "markup": False, "emoji": False}
    console = Console(**as_it_is)
    if console.is_terminal:
        return console
    return Console(**as_it_is, width=PLAIN_WIDTH, soft_wrap=True)
