"""One picture of a benchmark: latency of every case from median to maximum, and calls a second beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from clients.bench.cases import REFERENCES, Measurement

_DOOR, _BARE, _INK = "#3b7dd8", "#8a8a8a", "#1a1a1a"


def write_chart(path: Path, measured: Sequence[Measurement], title: str) -> None:
    """Draw as PNG; cases without an answer are left out. Whole or not at all."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [one for one in measured if one.calls]
    figure = Figure(figsize=(11, 1.6 + 0.42 * len(shown)), layout="constrained")
    FigureCanvasAgg(figure)
    latency, speed = figure.subplots(1, 2, sharey=True, width_ratios=(2.4, 1))
    figure.suptitle(title, x=0.01, ha="left")
    for row, one in enumerate(shown):
        colour = _BARE if one.case.door in REFERENCES else _DOOR
        p50, p95, p99, top = one.p50_ms, one.p95_ms, one.p99_ms, one.max_ms
        latency.plot([p50, p99], [row, row], color=colour, linewidth=6, alpha=0.45, solid_capstyle="butt")
        latency.plot([p99, top], [row, row], color=colour, linewidth=1)
        latency.plot(p50, row, "o", color=colour)
        latency.plot(p95, row, "|", color=_INK, markersize=9)
        beside = {"textcoords": "offset points", "fontsize": 8}
        latency.annotate(f"{p50:.3g}", (p50, row), xytext=(0, 7), ha="center", **beside)
        speed.barh(row, one.per_second, color=colour, height=0.55)
        speed.annotate(f"{one.per_second:.0f}", (one.per_second, row), xytext=(3, 0), va="center", **beside)
    latency.set_xscale("log")
    latency.set_yticks(range(len(shown)), [str(one.case) for one in shown])
    latency.invert_yaxis()
    latency.set_xlabel("ms: dot p50, tick p95, bar to p99, line to max")
    speed.set_xlabel("calls per second, all clients")
    speed.margins(x=0.18)
    for axes in (latency, speed):
        axes.grid(axis="x", color="#e4e4e4", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    figure.savefig(temporary, dpi=110, format="png")
    temporary.replace(path)
