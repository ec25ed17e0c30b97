"""One picture of an episode: camera frames along time, chunks against executed actions, latencies."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

import numpy as np

from clients.episode_trace import StepRecord
from clients.receiver import EpisodeOutcome
from policy.spec import PolicySpec

_FRAMES = 8
_INK, _MUTED, _HELD = "#1a1a1a", "#8a8a8a", "#f3d9d3"
_CHUNKS = (
    "#3b7dd8",
    "#e08a2c",
    "#4aa564",
    "#9b5fc0",
)  # neighbours differ; a chunk keeps its colour in all rows


def write_timeline(path: Path, outcome: EpisodeOutcome, spec: PolicySpec) -> None:
    """Draw `outcome` as PNG. Whole or not at all."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    dims = spec.action.dim
    figure = Figure(figsize=(13, 2.2 + 1.25 * dims + 1.6), layout="constrained")
    FigureCanvasAgg(figure)
    rows = figure.subplots(
        dims + 2, 1, sharex=True, gridspec_kw={"height_ratios": [1.7] + [1.25] * dims + [1.5]}
    )
    result = "success" if outcome.success else "no success"
    figure.suptitle(
        f"{outcome.task}, seed {outcome.seed}: {result} after {outcome.ticks} control periods; "
        f"{outcome.chunk_policy}, {spec.label}",
        x=0.01,
        ha="left",
    )
    _frames(rows[0], outcome)
    for dim in range(dims):
        _action(rows[1 + dim], outcome, spec, dim)
    _latencies(rows[-1], outcome)
    rows[-1].set_xlabel("seconds")
    rows[-1].set_xlim(0, max(outcome.ended_at - outcome.started_at, 1e-3))
    for row in rows:
        row.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    figure.savefig(temporary, dpi=110, format="png")
    temporary.replace(path)


def held_spans(steps: Iterable[StepRecord], period_s: float) -> list[tuple[float, float]]:
    """From when to when the robot held, in the records' seconds: one span for all periods in a row.

    A patch for each period, thousands a minute in every row, would take far longer to draw than all the rest.
    """
    runs = (list(run) for held, run in groupby(steps, lambda record: record.command is None) if held)
    return [(run[0].at, run[-1].at + period_s) for run in runs]


def _frames(row, outcome: EpisodeOutcome) -> None:
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    row.set_yticks([])
    row.set_ylim(0, 1)
    row.spines["left"].set_visible(False)
    row.set_ylabel("camera", rotation=0, ha="right", va="center")
    kept = outcome.trace.frames
    if not kept:
        return
    chosen = sorted({round(i) for i in np.linspace(0, len(kept) - 1, _FRAMES)})
    width = outcome.ended_at - outcome.started_at
    for place, index in enumerate(chosen):
        at, image = kept[index]
        # Evenly spaced so that none covers another; a line leads to the moment of capture.
        x = width * (place + 0.5) / len(chosen)
        zoom = 96 / image.shape[0]
        box = AnnotationBbox(
            OffsetImage(image, zoom=zoom),
            (at - outcome.started_at, 0),
            xybox=(x, 0.6),
            frameon=False,
            arrowprops={"arrowstyle": "-", "color": _MUTED, "linewidth": 0.7},
        )
        row.add_artist(box)


def _action(row, outcome: EpisodeOutcome, spec: PolicySpec, dim: int) -> None:
    start, period = outcome.started_at, 1 / outcome.control_rate_hz
    steps = outcome.trace.steps
    executed = [record for record in steps if record.command is not None]
    for began, ended in held_spans(steps, period):
        row.axvspan(began - start, ended - start, color=_HELD, linewidth=0)
    when = {record.step: record.at - start for record in executed}
    last = max(when, default=-1)
    for request in outcome.trace.requests:
        if request.actions is None or not when:
            continue
        # Steps that were executed lie where they were; those planned beyond the last one continue it.
        index = np.arange(len(request.actions)) + request.obs_step
        times = [when.get(int(i), when[last] + (i - last) * period) for i in index]
        row.plot(
            times,
            request.actions[:, dim],
            color=_CHUNKS[request.seq % len(_CHUNKS)],
            linewidth=0.9,
            alpha=0.75,
        )
    row.plot(
        [record.at - start for record in executed],
        [record.command[dim] for record in executed if record.command is not None],
        color=_INK,
        linewidth=1.5,
    )
    margin = 0.08 * (spec.action.high[dim] - spec.action.low[dim])
    row.set_ylim(spec.action.low[dim] - margin, spec.action.high[dim] + margin)
    row.set_ylabel(
        f"{spec.action.names[dim]}\n[{spec.action.units[dim]}]", rotation=0, ha="right", va="center"
    )
    if dim == 0:
        row.set_title(
            "black: executed; coloured: chunks as they came; shaded: held",
            loc="left",
            fontsize=9,
            color=_MUTED,
        )


def _latencies(row, outcome: EpisodeOutcome) -> None:
    start = outcome.started_at
    for request in outcome.trace.requests:
        sent, ended = request.sent_at - start, request.ended_at - start
        colour = _CHUNKS[request.seq % len(_CHUNKS)] if request.outcome == "accepted" else "#c0392b"
        row.bar(
            sent, (ended - sent) * 1e3, width=max(ended - sent, 1e-3), align="edge", color=colour, linewidth=0
        )
    row.set_ylabel("round trip\n[ms]", rotation=0, ha="right", va="center")
    row.set_title("width: while under way; red: not used", loc="left", fontsize=9, color=_MUTED)
