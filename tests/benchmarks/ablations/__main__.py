"""What each choice of the trainer is worth: variants of a small policy, trained alike, measured in closed loop.

    python -m tests.benchmarks.ablations [--only prefix crops] [--plan]

Everything that the variants need is collected, trained and evaluated, in turn and on all cores, by the entry points of
`tinyvla collect`, `train`, `evaluate`, `export` and `sweep`. The same command goes on where it was interrupted. It
leaves ablations.md and ablations.json under --out; both are written anew after every evaluation.

The setting is small, so that a training takes about seven minutes on two cores: one camera of 96 pixels, four tasks of
150 demonstrations each, about 2,000 steps of 64 samples. The shipped policy had 80,000 samples and four times that many
samples trained on before its first takeover, and even that left failures (docs/bundled-policy.md). So variants have
room on either side: the four tasks are those that all succeed now and then with less, and none needs a grasp, which a
policy of this size hardly ever learns from 150 demonstrations and where all variants would be at zero.

The default: sample prediction, 10 DDIM steps from full noise, prefixes, averaged weights, shifted images,
demonstrations with pushes, diffusion. Prefixes can only cost something in lock-step; what they are for shows when
chunks come late, so that is run too. Positions of objects and goals are trained on as an auxiliary target, as they are
by default.

The runs keep a checkpoint of every epoch (about 60 MB each), which is what `tinyvla calibrate` wants.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence

import tyro
from rich.console import Console

from clients.robots.metaworld_tasks import task_names
from policy.errors import TinyVLAError, UsageError
from tests.benchmarks.ablations.estimate import Took, corrections
from tests.benchmarks.ablations.parts import Part, plan_parts
from tests.benchmarks.ablations.settings import AblationArgs
from tests.benchmarks.ablations.table import document, markdown, rows_of, trained
from tests.benchmarks.ablations.variants import Variant, chosen_variants, trainings_of
from trainer.evaluation.journal import Journal
from trainer.evaluation.run_missing import keep_same_protocol


def check(args: AblationArgs) -> None:
    """Raise UsageError for flags that cannot work."""
    names = tuple(task_names(args.tasks))
    if names != args.tasks:
        raise UsageError(f"--tasks: give each task once and by its name: {' '.join(names)}")
    if min(args.episodes, args.epochs, args.demonstrations, args.workers) < 1 or not args.seeds:
        raise UsageError(
            "--episodes, --epochs, --demonstrations and --workers must be 1 or more, with a seed"
        )


def tell_plan(parts: Sequence[Part], took: Sequence[Took], console: Console) -> None:
    """What is left to do, and about how long it takes."""
    factor = corrections(took)
    left = [part for part in parts if not part.done()]
    for kind in dict.fromkeys(part.kind for part in parts):
        minutes = [part.seconds * factor[kind] / 60 for part in left if part.kind == kind]
        done = sum(part.kind == kind for part in parts) - len(minutes)
        console.print(f"{kind:<9} {len(minutes):>3} parts left, {done} done, about {sum(minutes):.0f} min")
    console.print(f"about {sum(part.seconds * factor[part.kind] for part in left) / 60:.0f} min in all")


def write(args: AblationArgs, variants: list[Variant], took: Sequence[Took]) -> str:
    """The tables of what is complete; returns them as Markdown."""
    rows, runs = rows_of(args, variants), trained(args, trainings_of(variants))
    text = markdown(args, rows, runs, took)
    (args.out / "ablations.md").write_text(text)
    told = json.dumps(document(args, rows, runs, took), indent=1, allow_nan=False)
    (args.out / "ablations.json").write_text(told + "\n")
    return text


def ablate(args: AblationArgs, console: Console) -> None:
    """Do what is left to do.

    Raises:
        UsageError: a flag that cannot work, or an --out of other settings.
    """
    check(args)
    variants = chosen_variants(args.only, args.delay_ms)
    parts = plan_parts(args, variants)
    if args.plan:
        tell_plan(parts, [], console)
        return
    keep_same_protocol(args.out, args.fixed())
    with Journal(args.out / "wall_times.jsonl", Took) as journal:
        tell_plan(parts, journal.done, console)
        for number, part in enumerate(parts, 1):
            if part.done():
                continue
            console.rule(f"{number} of {len(parts)}: {part.kind} {part.name}")
            started, finished = time.perf_counter(), False
            try:
                part.run(console)
                finished = True
            finally:
                seconds = round(time.perf_counter() - started, 2)
                journal.add(Took(part.kind, part.name, seconds, part.seconds, finished))
            if part.kind == "evaluate":
                write(args, variants, journal.done)
            tell_plan(parts, journal.done, console)
        console.print(write(args, variants, journal.done), markup=False, highlight=False, soft_wrap=True)


def main() -> int:
    try:
        ablate(tyro.cli(AblationArgs, prog="python -m tests.benchmarks.ablations"), Console())
    except (UsageError, TinyVLAError) as error:
        print(f"ablations: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
