"""The work in parts, each of which goes on where it was: collect, train, evaluate."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console

from tests.benchmarks.ablations.estimate import collecting_s, evaluating_s, training_s
from tests.benchmarks.ablations.settings import AblationArgs, frames_of
from tests.benchmarks.ablations.variants import Training, Variant, trainings_of
from trainer import train
from trainer.collect import collect
from trainer.collection.settings import CollectArgs
from trainer.evaluate import evaluate
from trainer.evaluation.settings import EvaluateArgs
from trainer.export import ExportArgs, export
from trainer.sweep import SweepArgs, sweep

THREADS = (
    torch.get_num_threads()
)  # asked before worker processes are told, through the environment, to use one


@dataclass(frozen=True)
class Part:
    """Something to do that takes its time."""

    kind: str  # collect, train or evaluate
    name: str
    seconds: float  # estimated
    done: Callable[[], bool]
    run: Callable[[Console], object]


def outcomes(args: AblationArgs, variant: Variant, seed: int) -> dict[tuple[str, int], bool]:
    """Success by task and episode, of the episodes asked for that were run."""
    journal = args.measured(variant.name, seed) / "episodes.jsonl"
    lines = map(json.loads, journal.read_text().splitlines()) if journal.exists() else iter(())
    found = {(line["task"], line["episode"]): line["success"] for line in lines}
    asked = [(task, number) for task in args.tasks for number in range(args.episodes)]
    return {scene: found[scene] for scene in asked if scene in found}


def complete(args: AblationArgs, variant: Variant, seed: int) -> bool:
    """Whether all its episodes were run."""
    return len(outcomes(args, variant, seed)) == len(args.tasks) * args.episodes


def epochs_of(args: AblationArgs, training: Training) -> int:
    """Pushes make demonstrations longer; data without them are gone through more often, for as many steps."""
    own, default = frames_of(args.data(training.data)), frames_of(args.data("noisy"))
    return args.epochs if own is None or default is None else max(1, round(args.epochs * default / own))


def final_checkpoint(args: AblationArgs, training: Training, seed: int) -> Path:
    """That of the last epoch: none is chosen by its loss, so that all are trained for as long."""
    return args.run(training.name, seed) / f"epoch{epochs_of(args, training)}"


def train_command(args: AblationArgs, training: Training, seed: int) -> list[str]:
    """Arguments of `tinyvla train`.

    Chunks are drawn from full noise, as diffusion policies usually are; the variants of the temperature set another.
    The average spans a tenth of the run (200 of 2,000 steps), as it did in the shipped policy's first training; the
    trainer's default of 0.999 would span half of it.
    """
    run = args.run(training.name, seed)
    begun = any((run / name).exists() for name in ("last", "last.old"))
    fields = {
        "dataset-dir": args.data(training.data), "out": run, "name": training.name,
        "epochs": epochs_of(args, training), "batch-size": args.batch_size, "lr": args.lr, "draws": 2,
        "temperature": 1.0, "patience": 0, "ema-decay": 0.995, "hidden-dim": args.hidden_dim, "layers": args.layers,
        "seed": seed, "keep-every": 1, "save-every": 200, "pictures-every": 0, "threads": THREADS,
    }  # fmt: skip
    flags = [word for name, value in fields.items() for word in (f"--{name}", str(value))]
    return [*flags, *training.flags, *(["--resume"] if begun else [])]


def _collect(args: AblationArgs, training: Training, console: Console) -> None:
    collect(
        CollectArgs(
            out=args.data(training.data), tasks=args.tasks, episodes=args.demonstrations, cameras=args.cameras,
            size=args.size, noise=training.noise, workers=args.workers,
        ),
        console,
    )  # fmt: skip


def _exported(args: AblationArgs, variant: Variant, seed: int) -> Path:
    """A variant's bundle, which runs faster than the checkpoint; variants of one training share it where they can."""
    name = "bundle"
    if variant.temperature is not None:
        name += f"-temperature{variant.temperature:g}"
    if variant.weights != "ema":
        name += f"-{variant.weights}"
    bundle = args.run(variant.training.name, seed) / name
    if not (bundle / "policy.json").exists():
        checkpoint = final_checkpoint(args, variant.training, seed)
        export(ExportArgs(checkpoint, bundle, temperature=variant.temperature, weights=variant.weights))
    return bundle


def _evaluate(args: AblationArgs, variant: Variant, seed: int, console: Console) -> None:
    out = args.measured(variant.name, seed)
    if variant.chunk_policy is None:
        evaluate(
            EvaluateArgs(
                out=out, bundle=_exported(args, variant, seed), tasks=args.tasks, episodes=args.episodes,
                ddim_steps=variant.ddim_steps, workers=args.workers,
            ),
            console,
        )  # fmt: skip
        return
    sweep(
        SweepArgs(
            out=out, bundle=_exported(args, variant, seed), tasks=args.tasks, episodes=args.episodes,
            delays=(args.delay_ms,), chunk_policies=(variant.chunk_policy,), ddim_steps=variant.ddim_steps,
            workers=args.workers,
        ),
        console,
    )  # fmt: skip


def plan_parts(args: AblationArgs, variants: list[Variant]) -> list[Part]:
    """Everything in order: all of a seed's trainings before their evaluations, so that the first seed's table comes
    early."""
    trainings = trainings_of(variants)
    parts = [
        Part(
            "collect", training.data, collecting_s(args),
            lambda training=training: frames_of(args.data(training.data)) is not None,
            lambda console, training=training: _collect(args, training, console),
        )
        for training in {training.data: training for training in trainings}.values()
    ]  # fmt: skip
    for seed in args.seeds:
        for training in trainings:
            parts.append(
                Part(
                    "train", f"{training.name}-seed{seed}", training_s(args),
                    lambda training=training, seed=seed: (
                        final_checkpoint(args, training, seed) / "state.json"
                    ).exists(),
                    lambda console, training=training, seed=seed: train.main(
                        train_command(args, training, seed)
                    ),
                )
            )  # fmt: skip
        for variant in variants:
            parts.append(
                Part(
                    "evaluate", f"{variant.name}-seed{seed}", evaluating_s(args, variant),
                    lambda variant=variant, seed=seed: complete(args, variant, seed),
                    lambda console, variant=variant, seed=seed: _evaluate(args, variant, seed, console),
                )
            )  # fmt: skip
    return parts
