"""From the episodes of a delay sweep to its cells, one per chunk policy and delay."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import mean

from clients.chunk_buffer import CHUNK_POLICIES, ChunkPolicy
from trainer.evaluation.delayed_rollout import DelayedEpisode
from trainer.evaluation.interval import wilson


@dataclass(frozen=True)
class Cell:
    """One chunk policy at one delay, over all tasks."""

    chunk_policy: ChunkPolicy
    delay_ms: float
    episodes: int
    successes: int
    rate: float
    low: float  # Wilson 95 %
    high: float
    by_task: dict[str, int]  # task -> successes
    periods_to_success: float | None  # mean; None without a success
    held: float  # share of all control periods in which no plan was followed
    seam_jump_ratio: float | None  # mean jump at a seam over mean interior step, over all seams and steps
    jerk: float | None  # mean over episodes, action range per s^2


def cells_of(episodes: Iterable[DelayedEpisode]) -> list[Cell]:
    """Cells by chunk policy, then by delay."""
    groups: dict[tuple[ChunkPolicy, float], list[DelayedEpisode]] = {}
    for episode in episodes:
        groups.setdefault((episode.chunk_policy, episode.delay_ms), []).append(episode)
    order = sorted(groups, key=lambda key: (CHUNK_POLICIES.index(key[0]), key[1]))
    return [_cell(*key, groups[key]) for key in order]


def _cell(chunk_policy: ChunkPolicy, delay_ms: float, episodes: Sequence[DelayedEpisode]) -> Cell:
    successes = [episode for episode in episodes if episode.success]
    low, high = wilson(len(successes), len(episodes))
    tasks = sorted({episode.task for episode in episodes})
    seams = _weighted([(episode.seams, episode.seam_jump) for episode in episodes])
    interior = _weighted([(episode.interior_steps, episode.interior_step) for episode in episodes])
    jerks = [episode.jerk for episode in episodes if episode.jerk is not None]
    return Cell(
        chunk_policy=chunk_policy,
        delay_ms=delay_ms,
        episodes=len(episodes),
        successes=len(successes),
        rate=len(successes) / len(episodes),
        low=low,
        high=high,
        by_task={task: sum(episode.task == task for episode in successes) for task in tasks},
        periods_to_success=mean(episode.periods for episode in successes) if successes else None,
        held=sum(episode.held for episode in episodes) / max(1, sum(episode.periods for episode in episodes)),
        seam_jump_ratio=seams / interior if seams is not None and interior else None,
        jerk=mean(jerks) if jerks else None,
    )


def _weighted(values: Sequence[tuple[int, float | None]]) -> float | None:
    """Mean over everything counted, not over episodes: one with two seams says less than one with thirty."""
    total = sum(count for count, value in values if value is not None)
    return sum(count * value for count, value in values if value is not None) / total if total else None


def markdown(cells: Sequence[Cell], protocol: str) -> str:
    """The table, with the protocol in words above it."""
    lines = [
        protocol, "",
        "| chunk policy | delay | success | rate | 95 % interval | periods to success | held | seam ratio | jerk |",
        "|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for cell in cells:
        row = (
            cell.chunk_policy,
            f"{cell.delay_ms:g} ms",
            f"{cell.successes}/{cell.episodes}",
            f"{100 * cell.rate:.0f} %",
            f"{100 * cell.low:.0f}–{100 * cell.high:.0f} %",
            _number(cell.periods_to_success, 0),
            f"{100 * cell.held:.0f} %",
            _number(cell.seam_jump_ratio, 2),
            _number(cell.jerk, 0),
        )
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines) + "\n"


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
