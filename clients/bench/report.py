"""What was measured, as a table, as JSON, and what may be said of it in ratios."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from clients.bench.cases import COMPARED_WITH, Measurement
from clients.plain_json import plain


def print_table(console: Console, measured: Sequence[Measurement]) -> None:
    """One row a case, then the comparisons."""
    table = Table(title="latency from observation to actions, at the client [ms]", title_justify="left")
    table.add_column("case")
    for name in ("p50", "p95", "p99", "max", "calls/s", "errors", "/healthz p99"):
        table.add_column(name, justify="right")
    for one in measured:
        errors = ", ".join(f"{code} {count}" for code, count in one.errors.items()) or "0"
        figures = [_shown(x) for x in (one.p50_ms, one.p95_ms, one.p99_ms, one.max_ms)]
        health = "" if one.health_p99_ms is None else _shown(one.health_p99_ms)
        table.add_row(str(one.case), *figures, f"{one.per_second:.0f}", errors, health)
    console.print(table)
    for line in comparisons(measured):
        console.print(line)


def comparisons(measured: Sequence[Measurement]) -> list[str]:
    """Doors against bare servers, and many clients against one: each of the same run."""
    by_case = {one.case: one for one in measured}
    lines: list[str] = []
    for one in measured:
        for reference in COMPARED_WITH.get(one.case.door, ()):
            bare = by_case.get(replace(one.case, door=reference))
            if bare is not None and math.isfinite(more := one.p50_ms - bare.p50_ms):
                lines.append(f"{one.case}: p50 {more:+.3f} ms against the bare server ({reference})")
        alone = by_case.get(replace(one.case, clients=1))
        if one.case.clients > 1 and alone is not None and alone.per_second:
            lines.append(f"{one.case}: {one.per_second / alone.per_second:.2f}x the throughput of one client")
    return lines


def write_json(
    path: Path,
    measured: Sequence[Measurement],
    settings: dict[str, object],
    policy: str,
    *,
    interrupted: bool = False,
) -> None:
    """Everything that was measured, and on what. Whole or not at all.

    Args:
        path: of the file.
        measured: cases, in order.
        settings: what was asked for, JSON-able.
        policy: label of the one that was served.
        interrupted: some cases that were asked for are not there.
    """
    report = {
        "format": "tinyvla-bench-serve/1",
        "policy": policy,
        "settings": settings,
        "interrupted": interrupted,
        "machine": {
            "cores": os.cpu_count(),
            "system": platform.platform(),
            "python": platform.python_version(),
        },
        "measured": plain([asdict(one) for one in measured]),
        "comparisons": comparisons(measured),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(report, indent=2, allow_nan=False) + "\n")
    temporary.replace(path)


def _shown(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}" if value < 10 else f"{value:.1f}"
