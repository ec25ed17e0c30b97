"""Where commands print: as wide as the terminal, or wide enough for tables in a log or a pipe."""

from __future__ import annotations

from rich.console import Console

# Columns of a log or a pipe, which have no width of their own; wide enough for the report.
PLAIN_WIDTH = 120


def make_console() -> Console:
    """The standard output."""
    console = Console(highlight=False)
    if console.is_terminal:
        return console
    return Console(highlight=False, width=PLAIN_WIDTH, soft_wrap=True)
