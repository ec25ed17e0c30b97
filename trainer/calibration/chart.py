"""Success against validation loss as a picture: checkpoints with Wilson intervals, the curve with its band."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trainer.calibration.curve import Curve
from trainer.evaluation.interval import wilson


def draw_curves(curves: Sequence[Curve], path: Path) -> None:
    """One panel a kind of policy, as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    columns = min(2, len(curves))
    rows = math.ceil(len(curves) / columns)
    figure = Figure(figsize=(5.2 * columns, 3.6 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False).flat
    for curve, axis in zip(curves, panels, strict=False):
        rates = np.array([point.successes / point.episodes for point in curve.points])
        bounds = np.array([wilson(point.successes, point.episodes) for point in curve.points])
        errors = np.maximum(0, [rates - bounds[:, 0], bounds[:, 1] - rates])
        losses = [point.loss for point in curve.points]
        axis.errorbar(losses, 100 * rates, 100 * errors, fmt="o", color="#333333", markersize=4, linewidth=1)
        axis.plot(curve.loss, 100 * np.array(curve.rate), color="#3b7dd8")
        axis.fill_between(
            curve.loss, 100 * np.array(curve.low), 100 * np.array(curve.high), color="#3b7dd8", alpha=0.2
        )
        axis.set_xscale("log")
        for which in (axis.xaxis.set_major_formatter, axis.xaxis.set_minor_formatter):
            which(FuncFormatter(lambda loss, _: f"{loss:g}"))
        axis.set_ylim(0, 100)
        axis.set_xlabel("validation loss")
        axis.set_ylabel("success in simulation, %")
        axis.set_title(textwrap.fill(curve.kind.title, 70, break_on_hyphens=False), fontsize=8)
    for axis in panels:  # what is left of the last row
        axis.remove()
    figure.savefig(path, dpi=110)
