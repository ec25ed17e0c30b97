"""The delay sweep as a picture: success, seams and jerk against delay, one line per chunk policy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainer.evaluation.sweep_table import Cell

_COLOURS = {"sync": "#8a8a8a", "receding": "#3b7dd8", "ensemble": "#e08a2c", "rtc": "#4aa564"}
# Panels beside success: attribute of a cell -> axis label.
_PANELS = {"seam_jump_ratio": "jump at a seam / interior step", "jerk": "jerk, action range per s²"}


def draw_sweep(cells: Sequence[Cell], path: Path, title: str) -> None:
    """Draw as PNG, with Wilson 95 % intervals around success."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 1 + len(_PANELS), gridspec_kw={"width_ratios": [1.5, 1, 1]})
    figure.suptitle(title, x=0.01, ha="left")
    policies = list(dict.fromkeys(cell.chunk_policy for cell in cells))
    delays = sorted({cell.delay_ms for cell in cells})
    for number, policy in enumerate(policies):
        own = [cell for cell in cells if cell.chunk_policy == policy]
        _success(axes[0], own, delays, policy, offset=(number - (len(policies) - 1) / 2) * 0.09)
        for axis, attribute in zip(axes[1:], _PANELS, strict=True):
            shown = [cell for cell in own if getattr(cell, attribute) is not None]
            axis.plot(
                [delays.index(cell.delay_ms) for cell in shown],
                [getattr(cell, attribute) for cell in shown],
                color=_COLOURS[policy], marker="o", markersize=4,
            )  # fmt: skip
    axes[0].set_ylim(0, 105)
    axes[0].set_ylabel("success, %")
    axes[0].legend(frameon=False, loc="lower left")
    for axis, label in zip(axes[1:], _PANELS.values(), strict=True):
        axis.set_ylabel(label)
        axis.set_ylim(bottom=0)
    for axis in axes:
        axis.set_xticks(range(len(delays)), [f"{delay:g}" for delay in delays])
        axis.set_xlabel("inference delay, ms")
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110, format="png")


def _success(axis: Any, cells: Sequence[Cell], delays: list[float], label: str, *, offset: float) -> None:
    """Lines are set apart a little so that no interval covers another."""
    rates = [100 * cell.rate for cell in cells]
    below = [max(0.0, 100 * (cell.rate - cell.low)) for cell in cells]
    above = [max(0.0, 100 * (cell.high - cell.rate)) for cell in cells]
    axis.errorbar(
        [delays.index(cell.delay_ms) + offset for cell in cells], rates, yerr=[below, above],
        color=_COLOURS[label], label=label, marker="o", markersize=4, capsize=2, elinewidth=0.8,
    )  # fmt: skip
