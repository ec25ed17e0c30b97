"""`tinyvla compare`: two policies on the same episodes, with paired tests, and whether the comparison is fair."""

from __future__ import annotations

import dataclasses
import json

from rich.console import Console

from clients.video import write_video
from policy.errors import UsageError
from policy.observation import Observation
from policy.predictor import Predictor
from service.flags import parse_flags
from trainer.comparison.film import Filmed
from trainer.comparison.latency import Latency, measure_latency
from trainer.comparison.metaworld import compare_metaworld, film_metaworld
from trainer.comparison.needle_rig import compare_needle_rig, film_needle_rig
from trainer.comparison.outcome import Outcome, pairing_markdown
from trainer.comparison.settings import LETTERS, CompareArgs, place_of
from trainer.comparison.training import Trained, read_training, unfair_because, verdict


def _played(args: CompareArgs) -> list[Latency]:
    """Film the first episode of each, and measure the latency of both on what they saw last."""
    policies: list[Predictor] = []
    observations: list[Observation] = []
    for number, letter in enumerate(LETTERS):
        filmed: Filmed = (film_needle_rig if args.robot == "needle-rig" else film_metaworld)(args, number)
        if args.film:
            write_video(args.out / f"film-{letter}.mp4", filmed.frames, filmed.fps)
        policies.append(filmed.policy)
        observations.append(filmed.observation)
    return measure_latency(policies, observations, args.ddim_steps)


def _write(
    args: CompareArgs, trained: list[Trained], outcome: Outcome, latency: list[Latency], console: Console
) -> None:
    because = unfair_because(*trained)
    lines = ["# " + " against ".join(one.spec.label for one in trained), "", outcome.protocol, ""]
    for letter, one, took in zip(LETTERS, trained, latency, strict=True):
        lines.append(
            f"- {letter}: {one.spec.label}, {one.spec.head}, {one.steps or 'unknown'} optimiser steps; inference "
            f"{took.p50_ms:.1f} ms (median), {took.p95_ms:.1f} ms (95 %), in turns with the other, one thread, "
            f"{took.runtime}"
        )
    if len({took.runtime for took in latency}) > 1:
        lines.append(
            "- Their inference times are of different runtimes: give two bundles, or two checkpoints, to compare them."
        )
    lines += ["", verdict(because, [one.steps for one in trained]), "", outcome.table]
    text = "\n".join(lines) + "\n" + "\n".join(map(pairing_markdown, outcome.pairings))
    (args.out / "compare.md").write_text(text)
    told = {
        "protocol": outcome.protocol,
        "fair": not because,
        "unfair_because": because,
        "policies": {
            letter: {
                "label": one.spec.label, "head": one.spec.head, "optimizer_steps": one.steps,
                "inference": dataclasses.asdict(took),
            }
            for letter, one, took in zip(LETTERS, trained, latency, strict=True)
        },
        "rows": outcome.rows,
        "paired": [pairing.to_json() for pairing in outcome.pairings],
    }  # fmt: skip
    (args.out / "compare.json").write_text(json.dumps(told, indent=1, allow_nan=False) + "\n")
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def compare(args: CompareArgs, console: Console | None = None) -> Outcome:
    """Run what is missing; leave compare.md, compare.json, compare.png, films and both evaluations under `args.out`.

    Raises:
        UsageError: what is no policy, the same policy twice, or a policy that cannot do what is asked.
    """
    console = console or Console()
    places = [place_of(path) for path in (args.first, args.second)]
    if places[0][1].resolve() == places[1][1].resolve():
        raise UsageError(f"A and B are both {places[0][1]}; give two policies")
    trained = [read_training(path) for path in (args.first, args.second)]
    run = compare_needle_rig if args.robot == "needle-rig" else compare_metaworld
    outcome = run(args, trained, console)
    _write(args, trained, outcome, _played(args), console)
    return outcome


def main(argv: list[str]) -> int:
    """Entry of `tinyvla compare`."""
    compare(parse_flags(CompareArgs, argv, "tinyvla compare"))
    return 0
