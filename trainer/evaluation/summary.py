"""From episodes to a table: per task, averaged over tasks, and averaged over difficulty groups."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import mean

from clients.robots.metaworld_tasks import DIFFICULTY, difficulty
from trainer.evaluation.interval import wilson
from trainer.evaluation.rollout import EpisodeResult


@dataclass(frozen=True)
class Row:
    """One task under one actor."""

    task: str
    actor: str
    successes: int
    episodes: int
    rate: float
    low: float  # Wilson 95 %
    high: float
    mean_steps: float | None  # to success; None without one
    mean_return: float


def rows_of(results: Iterable[EpisodeResult]) -> list[Row]:
    """One row per actor and task, in order of first appearance."""
    groups: dict[tuple[str, str], list[EpisodeResult]] = {}
    for result in results:
        groups.setdefault((result.actor, result.task), []).append(result)
    rows = []
    for (actor, task), episodes in groups.items():
        successes = sum(episode.success for episode in episodes)
        steps = [episode.steps for episode in episodes if episode.success]
        low, high = wilson(successes, len(episodes))
        rows.append(
            Row(
                task, actor, successes, len(episodes), successes / len(episodes), low, high,
                mean(steps) if steps else None, mean(episode.episode_return for episode in episodes),
            )
        )  # fmt: skip
    return rows


def per_task_mean(rows: list[Row], actor: str) -> float:
    """Mean of the tasks' success rates."""
    return mean(row.rate for row in rows if row.actor == actor)


def macro_mean(rows: list[Row], actor: str) -> float:
    """Mean of the difficulty groups' means, over the groups that were evaluated."""
    groups = []
    for group in DIFFICULTY:
        rates = [row.rate for row in rows if row.actor == actor and difficulty(row.task) == group]
        if rates:
            groups.append(mean(rates))
    return mean(groups)


def markdown(rows: list[Row]) -> str:
    """The table as Markdown."""
    lines = ["| task | actor | success | rate | 95 % interval | mean steps | mean return |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for row in rows:
        steps = f"{row.mean_steps:.0f}" if row.mean_steps is not None else "–"
        lines.append(
            f"| {row.task} | {row.actor} | {row.successes}/{row.episodes} | {100 * row.rate:.0f} % | "
            f"{100 * row.low:.0f}–{100 * row.high:.0f} % | {steps} | {row.mean_return:.0f} |"
        )
    for actor in dict.fromkeys(row.actor for row in rows):
        lines.append(
            f"| **mean over tasks** | {actor} | | **{100 * per_task_mean(rows, actor):.1f} %** | | | |"
        )
        lines.append(
            f"| mean over difficulty groups | {actor} | | {100 * macro_mean(rows, actor):.1f} % | | | |"
        )
    return "\n".join(lines) + "\n"
