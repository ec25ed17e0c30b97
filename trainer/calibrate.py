"""`tinyvla calibrate`: what a validation loss is worth, measured by running checkpoints in closed loop."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console
from rich.table import Table

from clients.robots.metaworld_tasks import TASKS
from policy.errors import UsageError
from service.flags import parse_flags
from trainer.calibration.chart import draw_curves
from trainer.calibration.checkpoints import Kept, kept_checkpoints
from trainer.calibration.curve import Curve, Kind, Point, check_enough, write_calibration
from trainer.evaluate import evaluate
from trainer.evaluation.settings import EvaluateArgs
from trainer.evaluation.subject import camera_setup


@dataclass(frozen=True)
class CalibrateArgs:
    """Run the checkpoints kept along training runs in MetaWorld, and fit success against validation loss.

    One curve is fitted for each kind of policy (head, sampling, horizon, tasks, demonstrations) among the runs.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run directories of `tinyvla train`."""
    out: Path = Path("runs/calibrate")
    """Results: calibration.json and calibration.png; the same command goes on where it was."""
    episodes: int = 20
    """Episodes per task and checkpoint."""
    most: int = 12
    """Checkpoints per run at most, spread evenly over those it kept."""
    seed: int | None = None
    workers: int = max(1, os.cpu_count() or 1)


def spread(kept: list[Kept], most: int) -> list[Kept]:
    """Up to `most` of them, the first and the last among them."""
    if len(kept) <= most:
        return kept
    chosen = {round(number * (len(kept) - 1) / max(1, most - 1)) for number in range(most)}
    return [kept[number] for number in sorted(chosen)]


def _check(kept: Kept) -> None:
    """Raise UsageError for a policy that cannot be run in MetaWorld."""
    tasks = list(kept.spec.instruction.by_task)
    unknown = [task for task in tasks if task not in TASKS]
    if unknown or not tasks:
        raise UsageError(f"{kept.path}: MetaWorld has no task {', '.join(unknown) or '(none is named)'}")
    camera_setup(kept.spec)


def _measured(args: CalibrateArgs, kept: Kept, console: Console) -> Point:
    name = f"{kept.path.parent.resolve().name}/{kept.path.name}"
    console.print(f"{name}, validation loss {kept.loss:.4g}")
    rows = evaluate(
        EvaluateArgs(
            out=args.out / name, checkpoint=kept.path, tasks=tuple(sorted(kept.spec.instruction.by_task)),
            episodes=args.episodes, execute=min(EvaluateArgs().steps_per_chunk, kept.spec.horizon),
            seed=args.seed, workers=args.workers,
        ),
        console,
    )  # fmt: skip
    return Point(name, kept.loss, sum(row.successes for row in rows), sum(row.episodes for row in rows))


def calibrate(args: CalibrateArgs, console: Console | None = None) -> list[Curve]:
    """Measure what is missing, fit, and write the files.

    Raises:
        UsageError: a directory that is no run, two runs of one name, or too few checkpoints of a kind.
    """
    console = console or Console()
    if args.most < 2:
        raise UsageError("--most must be 2 or more")
    if len({run.resolve().name for run in args.runs}) < len(args.runs):
        raise UsageError("two runs have the same directory name; their results would be mixed")
    if not args.runs:
        raise UsageError("name the runs to calibrate: directories that `tinyvla train --keep-every` left")
    by_kind: dict[Kind, list[Kept]] = {}
    for run in args.runs:
        for kept in spread(kept_checkpoints(run), args.most):
            _check(kept)
            by_kind.setdefault(Kind.of(kept.spec, kept.data, kept.held_out), []).append(kept)
    for kind, kinds in by_kind.items():
        check_enough(kind, [kept.loss for kept in kinds])
    curves = [
        Curve.measured(kind, [_measured(args, kept, console) for kept in kinds])
        for kind, kinds in by_kind.items()
    ]
    write_calibration(args.out / "calibration.json", curves)
    draw_curves(curves, args.out / "calibration.png")
    for curve in curves:
        table = Table(
            "checkpoint", "validation loss", "success", "read off the curve", title=curve.kind.title
        )
        for point in curve.points:
            table.add_row(
                point.checkpoint, f"{point.loss:.4g}", f"{point.successes}/{point.episodes}",
                curve.says(point.loss).partition("succeeded ")[2].partition(" %")[0] + " %",
            )  # fmt: skip
        console.print(table)
        console.print(curve.prediction.verdict)
    return curves


def main(argv: list[str]) -> int:
    """Entry of `tinyvla calibrate`."""
    calibrate(parse_flags(CalibrateArgs, argv, "tinyvla calibrate"))
    return 0
