"""From needle rig episodes to a table: stages, success with an interval, errors and loads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import mean

from trainer.evaluation.interval import wilson
from trainer.evaluation.rig_rollout import RigEpisode


@dataclass(frozen=True)
class RigRow:
    """One actor. Means are over the episodes that have the value; None where none has."""

    actor: str
    episodes: int
    aligned: int
    docked: int
    successes: int  # depth reached and held
    rate: float
    low: float  # Wilson 95 %
    high: float
    aborts: dict[str, int] = field(default_factory=dict)  # why -> episodes
    seconds: float | None = None
    docking_lateral: float | None = None  # mm
    docking_angle: float | None = None  # degrees
    depth_error_abs: float | None = None  # mm, at the end of episodes that docked
    path_error_mean: float | None = None  # mm
    peak_axial_force: float | None = None  # N, mean of the episodes' peaks
    peak_lateral_force: float | None = None  # N, likewise
    inference_ms: float | None = None  # mean of the episodes' medians, with the other workers beside it


_MEASURED = ("seconds", "docking_lateral", "docking_angle", "depth_error_abs", "path_error_mean",
             "peak_axial_force", "peak_lateral_force", "inference_ms")  # fmt: skip


def value_of(episode: RigEpisode, name: str) -> float | None:
    """A measured value of an episode; `depth_error_abs` is the size of its depth error."""
    if name == "depth_error_abs":
        return None if episode.depth_error is None else abs(episode.depth_error)
    return getattr(episode, name)


def rig_rows(episodes: Iterable[RigEpisode]) -> list[RigRow]:
    """One row per actor, in order of first appearance."""
    groups: dict[str, list[RigEpisode]] = {}
    for episode in episodes:
        groups.setdefault(episode.actor, []).append(episode)
    return [_row(actor, of_actor) for actor, of_actor in groups.items()]


def _row(actor: str, episodes: Sequence[RigEpisode]) -> RigRow:
    successes = sum(episode.success for episode in episodes)
    low, high = wilson(successes, len(episodes))
    means = {}
    for name in _MEASURED:
        values = [value for episode in episodes if (value := value_of(episode, name)) is not None]
        means[name] = mean(values) if values else None
    return RigRow(
        actor=actor,
        episodes=len(episodes),
        aligned=sum(episode.aligned for episode in episodes),
        docked=sum(episode.docked for episode in episodes),
        successes=successes,
        rate=successes / len(episodes),
        low=low,
        high=high,
        aborts=dict(Counter(episode.aborted for episode in episodes if episode.aborted is not None)),
        **means,
    )


_HEADINGS = ("", "aligned", "docked", "success", "95 % interval", "seconds", "lateral error at docking, mm",
             "angle at docking, °", "depth error, mm", "path error, mm", "peak force, N", "peak lateral, N",
             "aborts", "inference, ms")  # fmt: skip


def rig_markdown(rows: Sequence[RigRow]) -> str:
    """The table as Markdown."""
    lines = [f"| {' | '.join(_HEADINGS)} |", "|---" * len(_HEADINGS) + "|"]
    for row in rows:
        n = row.episodes
        aborts = ", ".join(f"{count} {why}" for why, count in row.aborts.items()) or "none"
        cells = (
            row.actor, f"{row.aligned}/{n}", f"{row.docked}/{n}", f"{row.successes}/{n}",
            f"{100 * row.low:.1f}–{100 * row.high:.1f} %", number(row.seconds, 1), number(row.docking_lateral, 3),
            number(row.docking_angle, 2), number(row.depth_error_abs, 3), number(row.path_error_mean, 3),
            number(row.peak_axial_force, 3), number(row.peak_lateral_force, 3), aborts, number(row.inference_ms, 1),
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def number(value: float | None, digits: int) -> str:
    """For a table; a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}"
