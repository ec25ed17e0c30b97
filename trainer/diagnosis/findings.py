"""What a diagnosis consists of, and how it is printed."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Measured:
    """A small table of what was measured."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Fault:
    """Something that is wrong."""

    code: str  # stable, such as `shuffled-pairs`
    what: str  # the evidence, with its numbers
    cause: str
    remedy: str


@dataclass(frozen=True)
class Diagnosis:
    """Everything one subcommand has to say."""

    about: str  # what was diagnosed, in words
    measured: tuple[Measured, ...]
    faults: tuple[Fault, ...]
    notes: tuple[str, ...] = ()

    @property
    def codes(self) -> tuple[str, ...]:
        return tuple(fault.code for fault in self.faults)


def show(diagnosis: Diagnosis, console: Console) -> None:
    """Print the measurements, then the verdict."""
    _say(console, diagnosis.about, "bold")
    for measured in diagnosis.measured:
        table = Table(title=measured.title, title_justify="left", title_style="")
        for number, column in enumerate(measured.columns):
            table.add_column(column, justify="left" if number == 0 else "right", overflow="fold")
        for row in measured.rows:
            table.add_row(*row)
        console.print(table)
    for note in diagnosis.notes:
        _say(console, f"- {note}")
    if not diagnosis.faults:
        console.print("verdict: no fault found", style="green")
    for fault in diagnosis.faults:
        _say(console, f"verdict: {fault.code}: {fault.what}", "red")
        _say(console, f"  likely cause: {fault.cause}")
        _say(console, f"  remedy: {fault.remedy}")


def _say(console: Console, line: str, style: str = "") -> None:
    """Unbroken: a terminal folds it by itself, and a program that searches the output finds it whole."""
    console.print(line, style=style, highlight=False, markup=False, soft_wrap=True)


def figure(value: float) -> str:
    """A number with three significant digits, as tables show it."""
    return f"{value:.3g}"
