"""An evaluation written down: results.md, results.json, results.png, and the table on the console."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from rich.console import Console
from rich.table import Table

from policy.spec import PolicySpec
from trainer.evaluation.chart import bar_chart
from trainer.evaluation.settings import EvaluateArgs
from trainer.evaluation.summary import Row, macro_mean, markdown, per_task_mean


def sampling_steps(spec: PolicySpec, asked: int | None) -> int:
    """Network evaluations per chunk; a regression policy is asked once, whatever was asked for."""
    if spec.sampler is None:
        return 1
    return asked or spec.sampler.default_steps


def protocol_of(args: EvaluateArgs, spec: PolicySpec) -> str:
    """What an evaluation did, for a reader of its figures."""
    raw = ", raw weights" if args.weights == "model" else ""
    told = "" if args.instruction is None else f", told {args.instruction!r} for every task"
    return (
        f"{args.episodes} episodes a task on goals never trained on, {sampling_steps(spec, args.ddim_steps)} sampling "
        f"steps, {args.steps_per_chunk} of {spec.horizon} actions executed per chunk, seed {args.first_seed}{raw}{told}"
    )


def measured_rows(rows: list[Row]) -> list[dict[str, Any]]:
    """The policy's own rows, as a bundle's contract keeps them."""
    return [
        {
            "task": row.task, "episodes": row.episodes, "successes": row.successes,
            "interval_95": [round(row.low, 3), round(row.high, 3)],
        }
        for row in rows if row.actor == "policy"
    ]  # fmt: skip


def write_report(
    args: EvaluateArgs, spec: PolicySpec, rows: list[Row], actors: tuple[str, ...], console: Console
) -> None:
    """Write the files under `args.out` and print the table."""
    protocol = f"Simulation (MetaWorld), lock-step: {spec.label}, {protocol_of(args, spec)}."
    (args.out / "results.md").write_text(f"{protocol}\n\n{markdown(rows)}")
    summary = {
        "protocol": protocol,
        "policy": spec.label,
        "rows": [dataclasses.asdict(row) for row in rows],
        "mean_over_tasks": {actor: per_task_mean(rows, actor) for actor in actors},
        "mean_over_difficulty_groups": {actor: macro_mean(rows, actor) for actor in actors},
    }
    (args.out / "results.json").write_text(json.dumps(summary, indent=1) + "\n")
    bar_chart(rows, args.out / "results.png", f"{spec.name}: success in simulation, Wilson 95 % intervals")
    table = Table("task", "actor", "success", "rate", "95 % interval", "steps", "return")
    for row in rows:
        table.add_row(
            row.task, row.actor, f"{row.successes}/{row.episodes}", f"{100 * row.rate:.0f} %",
            f"{100 * row.low:.0f}–{100 * row.high:.0f} %", f"{row.mean_steps or 0:.0f}", f"{row.mean_return:.0f}",
        )  # fmt: skip
    console.print(table)
    for actor in actors:
        console.print(f"{actor}: mean over tasks {100 * per_task_mean(rows, actor):.1f} %")
