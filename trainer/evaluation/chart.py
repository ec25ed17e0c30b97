"""The evaluation as a bar chart with intervals."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trainer.evaluation.summary import Row


def bar_chart(rows: list[Row], path: Path, title: str) -> None:
    """Success per task and actor with Wilson 95 % intervals, as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    tasks = list(dict.fromkeys(row.task for row in rows))
    actors = list(dict.fromkeys(row.actor for row in rows))
    figure, axes = pyplot.subplots(figsize=(max(6.0, 1.1 * len(tasks) + 2), 4.2), layout="constrained")
    width = 0.8 / len(actors)
    for number, actor in enumerate(actors):
        chosen = {row.task: row for row in rows if row.actor == actor}
        shown = [task for task in tasks if task in chosen]
        x = np.array([tasks.index(task) for task in shown]) + (number - (len(actors) - 1) / 2) * width
        rates = np.array([chosen[task].rate for task in shown])
        below = rates - np.array([chosen[task].low for task in shown])
        above = np.array([chosen[task].high for task in shown]) - rates
        errors = 100 * np.maximum(0, np.stack([below, above]))
        axes.bar(x, 100 * rates, width * 0.92, label=actor, yerr=errors, capsize=3, error_kw={"lw": 1})
    axes.set_xticks(range(len(tasks)), tasks, rotation=25, ha="right")
    axes.set_ylim(0, 105)
    axes.set_ylabel("success, %")
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, ncols=len(actors), loc="upper center", bbox_to_anchor=(0.5, -0.28))
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
