"""The ablations as a table: successes with Wilson intervals, differences paired by scene, wall times."""

from __future__ import annotations

import dataclasses
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from tests.benchmarks.ablations.estimate import Took
from tests.benchmarks.ablations.parts import complete, final_checkpoint, outcomes
from tests.benchmarks.ablations.settings import AblationArgs
from tests.benchmarks.ablations.variants import Training, Variant
from trainer.comparison.paired import Difference, compare_values
from trainer.evaluation.interval import wilson

Scenes = dict[tuple[str, int], list[bool]]  # by task and episode: whether each seed's policy succeeded


@dataclass(frozen=True)
class Row:
    """One variant, over the seeds that are complete."""

    variant: Variant
    seeds: tuple[int, ...]
    by_seed: tuple[int, ...]  # successes
    by_task: dict[str, int]
    episodes: int  # of all seeds
    difference: (
        Difference | None
    )  # of success rates from the row it is compared with; None for that row itself

    @property
    def successes(self) -> int:
        return sum(self.by_seed)


def _scenes(args: AblationArgs, variant: Variant, seeds: Sequence[int]) -> Scenes:
    found: Scenes = defaultdict(list)
    for seed in seeds:
        for scene, success in outcomes(args, variant, seed).items():
            found[scene].append(success)
    return found


def _difference(args: AblationArgs, variant: Variant, other: Variant) -> Difference | None:
    """Bootstrap over scenes, of the seeds that both have; what two seeds of one scene say is averaged."""
    seeds = [seed for seed in args.seeds if complete(args, variant, seed) and complete(args, other, seed)]
    if not seeds:
        return None
    first, second = _scenes(args, other, seeds), _scenes(args, variant, seeds)
    return compare_values([mean(first[s]) for s in first], [mean(second[s]) for s in first])


def rows_of(args: AblationArgs, variants: Sequence[Variant]) -> list[Row]:
    """A row for each variant that was run to its end with at least one seed."""
    by_name = {variant.name: variant for variant in variants}
    rows = []
    for variant in variants:
        seeds = tuple(seed for seed in args.seeds if complete(args, variant, seed))
        if not seeds:
            continue
        found = [outcomes(args, variant, seed) for seed in seeds]
        by_task = {
            task: sum(success for one in found for (of, _), success in one.items() if of == task)
            for task in args.tasks
        }
        itself = variant.name in ("default", variant.against)
        difference = None if itself else _difference(args, variant, by_name[variant.against])
        by_seed = tuple(sum(one.values()) for one in found)
        rows.append(Row(variant, seeds, by_seed, by_task, sum(map(len, found)), difference))
    return rows


def trained(args: AblationArgs, trainings: Iterable[Training]) -> list[dict[str, Any]]:
    """Of each finished training its steps and its validation losses, which mean what its own data and target make them
    mean."""
    found = []
    for training in trainings:
        for seed in args.seeds:
            state = final_checkpoint(args, training, seed) / "state.json"
            if state.exists():
                progress = json.loads(state.read_text())["progress"]
                found.append(
                    {
                        "training": training.name, "seed": seed, "optimizer_steps": progress["steps"],
                        "validation_loss": progress["validation"],
                    }
                )  # fmt: skip
    return found


def minutes_of(took: Iterable[Took], kind: str, names: Sequence[str] | None = None) -> float:
    """Wall time of parts, interrupted pieces included."""
    return sum(t.seconds for t in took if t.kind == kind and (names is None or t.name in names)) / 60


def _points(difference: Difference | None) -> str:
    if difference is None or difference.difference is None:
        return "–"
    text = f"{100 * difference.difference:+.1f}"
    if difference.low is None or difference.high is None:
        return text
    return f"{text} ({100 * difference.low:+.1f} … {100 * difference.high:+.1f})"


def _markdown_row(row: Row, took: Sequence[Took]) -> str:
    low, high = wilson(row.successes, row.episodes)
    variant = row.variant
    each = row.episodes // len(row.seeds)
    train = minutes_of(took, "train", [f"{variant.training.name}-seed{seed}" for seed in row.seeds])
    evaluate = minutes_of(took, "evaluate", [f"{variant.name}-seed{seed}" for seed in row.seeds])
    seeds = ", ".join(f"{count}/{each}" for count in row.by_seed)
    against = "" if variant.against == "default" else f" from {variant.against}"
    return (
        f"| {variant.group or '**default**'} | {variant.says} | {row.successes}/{row.episodes} | "
        f"{100 * row.successes / row.episodes:.1f} % | {100 * low:.0f}–{100 * high:.0f} % | "
        f"{_points(row.difference)}{against if row.difference else ''} | {seeds} | {train:.1f} | {evaluate:.1f} |"
    )


def markdown(
    args: AblationArgs, rows: Sequence[Row], runs: Sequence[dict[str, Any]], took: Sequence[Took]
) -> str:
    """Three tables: the variants, the same by task, and the trainings."""
    lines = [
        f"Simulation (MetaWorld), lock-step where nothing else is said: {args.episodes} episodes of each of "
        f"{len(args.tasks)} tasks ({', '.join(args.tasks)}) on goals never trained on, {len(args.seeds)} seeds of the "
        f"training. {args.demonstrations} demonstrations a task, {args.epochs} epochs, {len(args.cameras)} camera of "
        f"{args.size} px, width {args.hidden_dim}, {args.layers} layers.",
        "",
        "| varied | variant | successes | rate | 95 % interval (Wilson) | points from the default (95 % interval) | "
        "by seed | minutes of training | of evaluation |",
        "|---|---|---|---|---|---|---|---|---|",
        *(_markdown_row(row, took) for row in rows),
        "",
        "Differences are paired by scene: every variant faces the same goals. Their intervals come from resampling "
        "the scenes; what another seed of the training would change is not in them, but beside them, seed by seed.",
        "",
        f"| variant | {' | '.join(args.tasks)} |",
        f"|---|{'---|' * len(args.tasks)}",
    ]
    for row in rows:
        each = row.episodes // len(args.tasks)
        counts = " | ".join(f"{row.by_task[task]}/{each}" for task in args.tasks)
        lines.append(f"| {row.variant.says} | {counts} |")
    lines += ["", "| training | seed | optimiser steps | last validation loss |", "|---|---|---|---|"]
    for run in runs:
        losses = run["validation_loss"]
        lines.append(
            f"| {run['training']} | {run['seed']} | {run['optimizer_steps']} | "
            f"{f'{losses[-1]:.4g}' if losses else '–'} |"
        )
    kinds = {"collect": "collecting", "train": "training", "evaluate": "evaluating"}
    told = ", ".join(f"{what} {minutes_of(took, kind):.0f} min" for kind, what in kinds.items())
    return "\n".join([*lines, "", f"Wall time: {told}."]) + "\n"


def document(
    args: AblationArgs, rows: Sequence[Row], runs: Sequence[dict[str, Any]], took: Sequence[Took]
) -> dict[str, Any]:
    """The same for programs."""
    return {
        "format": "tinyvla-ablations/1",
        "setting": {**args.fixed(), "episodes": args.episodes, "seeds": list(args.seeds)},
        "rows": [
            {
                "name": row.variant.name, "varied": row.variant.group, "variant": row.variant.says,
                "training": row.variant.training.name, "seeds": list(row.seeds), "successes": row.successes,
                "episodes": row.episodes, "interval_95": list(wilson(row.successes, row.episodes)),
                "by_seed": list(row.by_seed), "by_task": row.by_task, "against": row.variant.against,
                "difference": row.difference and dataclasses.asdict(row.difference),
            }
            for row in rows
        ],
        "trainings": list(runs),
        "wall_times": [dataclasses.asdict(one) for one in took],
    }  # fmt: skip
