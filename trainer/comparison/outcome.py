"""What a comparison found, in the form that tables and JSON are made of."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trainer.comparison.paired import Difference, SuccessPairs
from trainer.evaluation.rig_summary import number


@dataclass(frozen=True)
class Pairing:
    """Paired tests of two series of episodes."""

    title: str  # "ONE against OTHER"
    successes: dict[str, SuccessPairs]  # by what was reached
    values: dict[str, tuple[Difference, int]]  # by what was measured; decimals for tables

    def to_json(self) -> dict[str, Any]:
        return {
            "title": self.title,
            "successes": {name: dataclasses.asdict(pairs) for name, pairs in self.successes.items()},
            "values": {name: dataclasses.asdict(found) for name, (found, _) in self.values.items()},
        }


@dataclass(frozen=True)
class Outcome:
    """Everything that a report of it says."""

    protocol: str
    table: str  # Markdown: each series by itself
    rows: list[dict[str, Any]]  # the same for programs
    pairings: Sequence[Pairing]


def pairing_markdown(pairing: Pairing) -> str:
    """Two tables: who succeeded where, and by how much the values differ."""
    lines = [
        f"## {pairing.title}",
        "",
        "| episodes | both | only the first | only the second | neither | p (McNemar) |",
    ]
    lines += ["|---|---|---|---|---|---|"]
    for name, pairs in pairing.successes.items():
        lines.append(
            f"| {name} | {pairs.both} | {pairs.only_first} | {pairs.only_second} | {pairs.neither} | "
            f"{pairs.p_value:.3g} |"
        )
    lines += ["", "| episodes that both have | pairs | first | second | difference | 95 % interval | |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for name, (found, digits) in pairing.values.items():
        interval = "–"
        if found.low is not None and found.high is not None:
            interval = f"{found.low:+.{digits}f} … {found.high:+.{digits}f}"
        change = "–" if found.difference is None else f"{found.difference:+.{digits}f}"
        lines.append(
            f"| {name} | {found.pairs} | {number(found.first, digits)} | {number(found.second, digits)} | {change} | "
            f"{interval} | {'differs' if found.differs else ''} |"
        )
    return "\n".join(lines) + "\n"
