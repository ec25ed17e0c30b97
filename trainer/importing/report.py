"""What an import found, kept and dropped, and why: gathered while reading, shown as a table, kept as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

REPORT_FILE = "import-report.json"


class LeftOut(Exception):
    """A session of which nothing can be used, with the reason in one line."""


@dataclass
class SessionReport:
    """One session, or one task of short-MetaWorld."""

    session: str
    episodes: int = 0
    frames: int = 0
    found: Counter[str] = field(default_factory=Counter)  # what was there -> how much
    dropped: Counter[str] = field(default_factory=Counter)  # what and why -> how much
    notes: list[str] = field(default_factory=list)
    left_out: str | None = None  # why nothing of it was used

    def drop(self, what: str, count: int) -> None:
        """Count something that was found and is not used."""
        if count:
            self.dropped[what] += int(count)

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "found": dict(self.found), "dropped": dict(self.dropped)}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> SessionReport:
        values = {**told, "found": Counter(told["found"]), "dropped": Counter(told["dropped"])}
        return cls(**values)


def whole_report(sessions: Sequence[SessionReport], settings: Mapping[str, Any]) -> dict[str, Any]:
    """What `import-report.json` holds."""
    return {
        "settings": dict(settings),
        "episodes": sum(one.episodes for one in sessions),
        "frames": sum(one.frames for one in sessions),
        "found": dict(_total(one.found for one in sessions)),
        "dropped": dict(_total(one.dropped for one in sessions)),
        "sessions": [one.to_json() for one in sessions],
    }


def print_report(console: Console, sessions: Sequence[SessionReport]) -> None:
    """Sessions, then what was dropped, then what else is to be known."""
    table = Table(title="imported", title_justify="left")
    table.add_column("session")
    for name in ("episodes", "frames", "dropped"):
        table.add_column(name, justify="right")
    table.add_column("left out because")
    for one in sessions:
        dropped = str(sum(one.dropped.values()))
        table.add_row(one.session, str(one.episodes), str(one.frames), dropped, one.left_out or "")
    console.print(table)
    found, dropped_in_all = _total(one.found for one in sessions), _total(one.dropped for one in sessions)
    if dropped_in_all:
        table = Table(title="dropped", title_justify="left")
        table.add_column("what and why")
        table.add_column("how many", justify="right")
        for what, count in sorted(dropped_in_all.items()):
            table.add_row(what, str(count))
        console.print(table)
    console.print("found: " + (", ".join(f"{count} {what}" for what, count in found.items()) or "nothing"))
    for one in sessions:
        for note in one.notes:
            console.print(f"{one.session}: {note}", highlight=False)


def _total(counts: Any) -> Counter[str]:
    total: Counter[str] = Counter()
    for one in counts:
        total += one
    return total
