"""The commands' console: whatever is printed comes out as it is."""

from __future__ import annotations

import pytest
from rich.table import Table

from clients.console import make_console


@pytest.mark.parametrize("text", ["put it in [the red] bin", "up to [/data/x]", "a :warning: sign"])
def test_a_text_with_brackets_is_printed_as_it_is(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Of an instruction or a path, which Rich would take for its markup, or fail at."""
    console, table = make_console(), Table(title=text)
    table.add_column()
    table.add_row(text)
    console.print(text)
    console.print(table)
    assert capsys.readouterr().out.count(text) == 3
