"""Success against validation loss as a picture: checkpoints with Wilson intervals, the curve with its band."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trainer.calibration.curve import Curve
from trainer.evaluation.interval import wilson


def draw_curves(curves: Sequence[Curve], path: Path) -> None:
    """One panel a kind of policy, as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4 * len(curves), 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(curves), squeeze=False)[0]
    for axis, curve in zip(panels, curves, strict=True):
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
        axis.set_ylim(0, 100)
        axis.set_xlabel("validation loss")
        axis.set_ylabel("success in simulation, %")
        axis.set_title(curve.kind.title, fontsize=8)
    figure.savefig(path, dpi=110)
