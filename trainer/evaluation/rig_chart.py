"""Needle rig episodes as a picture: stages with intervals, then errors and loads episode by episode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trainer.evaluation.interval import wilson
from trainer.evaluation.rig_rollout import RigEpisode
from trainer.evaluation.rig_summary import value_of

_STAGES = {"aligned": "aligned", "docked": "docked", "success": "depth"}
_PANELS = {
    "docking_lateral": "lateral error at docking, mm",
    "path_error_mean": "path error, mm",
    "depth_error": "depth error, mm",
    "peak_lateral_force": "peak lateral force, N",
}


def draw_rig(series: Mapping[str, Sequence[RigEpisode]], path: Path, title: str) -> None:
    """Write the PNG.

    Args:
        series: name -> episodes.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 + 2.2 * len(_PANELS), 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 1 + len(_PANELS), gridspec_kw={"width_ratios": [2.2] + [1] * len(_PANELS)})
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    for number, (name, episodes) in enumerate(series.items()):
        _stages(axes[0], name, episodes, number, len(series))
        for axis, value in zip(axes[1:], _PANELS, strict=True):
            _dots(axis, [v for e in episodes if (v := value_of(e, value)) is not None], number)
    axes[0].set_xticks(range(len(_STAGES)), list(_STAGES.values()))
    axes[0].set_ylim(0, 105)
    axes[0].set_ylabel("episodes, %")
    axes[0].legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.08), fontsize=8)
    for axis, label in zip(axes[1:], _PANELS.values(), strict=True):
        axis.set_title(label, fontsize=9)
        axis.set_xticks([])
        axis.set_xlim(-0.6, len(series) - 0.4)
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110, format="png")


def _stages(axis: Any, name: str, episodes: Sequence[RigEpisode], number: int, count: int) -> None:
    width = 0.8 / count
    reached = [sum(getattr(episode, stage) for episode in episodes) for stage in _STAGES]
    intervals = np.array([wilson(successes, len(episodes)) for successes in reached])
    rates = np.array(reached) / len(episodes)
    errors = 100 * np.maximum(0, np.stack([rates - intervals[:, 0], intervals[:, 1] - rates]))
    x = np.arange(len(_STAGES)) + (number - (count - 1) / 2) * width
    axis.bar(
        x,
        100 * rates,
        width * 0.92,
        label=name,
        color=f"C{number}",
        yerr=errors,
        capsize=3,
        error_kw={"lw": 1},
    )


def _dots(axis: Any, values: Sequence[float], number: int) -> None:
    """Every episode, spread sideways by its place alone, and their median."""
    if values:
        spread = number + 0.5 * (np.arange(len(values)) / max(1, len(values) - 1) - 0.5)
        axis.plot(spread, values, ".", color=f"C{number}", markersize=3, alpha=0.6)
        axis.plot([number - 0.3, number + 0.3], [np.median(values)] * 2, color="black", lw=1)
