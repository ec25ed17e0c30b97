"""Ceiling and floors of the simulated needle rig: `python -m trainer.rig_references` runs its expert in lock-step.

Beside the scripted expert, plain and with the pushes of demonstrations, stand doing nothing and random actions, under
the same protocol and without rendering.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from clients.rig_sim.lockstep import NeedleRigSim
from clients.rig_sim.stages import EpisodeMetrics
from clients.robots.needle_rig_contract import ACTION_LIMIT
from trainer.evaluation.interval import wilson
from trainer.expert_needle_rig import Perturbation, expert_action

_PLAIN_WIDTH = 130
Act = Callable[[NeedleRigSim], np.ndarray]


def _expert(rng: np.random.Generator) -> Act:
    return lambda sim: expert_action(sim.core)


def _pushed(rng: np.random.Generator) -> Act:
    pushes = Perturbation(rng, 1.0)
    return lambda sim: pushes.executed(expert_action(sim.core), sim.core)


def _zero(rng: np.random.Generator) -> Act:
    return lambda sim: np.zeros(6, np.float32)


def _random(rng: np.random.Generator) -> Act:
    return lambda sim: rng.uniform(-ACTION_LIMIT, ACTION_LIMIT, 6).astype(np.float32)


REFERENCES: dict[str, Callable[[np.random.Generator], Act]] = {
    "expert": _expert, "expert, pushed": _pushed, "zero": _zero, "random": _random,
}  # fmt: skip


def run_reference(sim: NeedleRigSim, name: str, seed: int) -> EpisodeMetrics:
    """One episode of a reference."""
    sim.reset(seed)
    act = REFERENCES[name](np.random.default_rng([seed, 0xEF]))
    while not sim.done:
        sim.step(act(sim))
    return sim.core.stages.metrics()


def summary(episodes: Sequence[EpisodeMetrics]) -> dict[str, object]:
    """Stages, success with a Wilson interval, and the means of what was measured."""
    count, successes = len(episodes), sum(episode.success for episode in episodes)
    low, high = wilson(successes, count)
    measured = {}
    for name in ("seconds", "docking_lateral", "docking_angle", "path_error_mean", "peak_axial_force",
                 "peak_lateral_force"):  # fmt: skip
        values = [value for episode in episodes if (value := getattr(episode, name)) is not None]
        measured[name] = round(float(np.mean(values)), 4) if values else None
    depth = [abs(e.depth_error) for e in episodes if e.depth_error is not None]
    return {
        "episodes": count,
        "aligned": sum(episode.aligned for episode in episodes),
        "docked": sum(episode.docked for episode in episodes),
        "successes": successes,
        "success_interval": [round(low, 4), round(high, 4)],
        "aborts": sum(episode.aborted is not None for episode in episodes),
        "depth_error_abs": round(float(np.mean(depth)), 4) if depth else None,
        **measured,
    }


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="rig_references", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--episodes", type=int, default=100, help="of each reference")
    parser.add_argument("--seed", type=int, default=1000, help="episode i is the scene of seed + i")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    asked = parser.parse_args(argv)
    sim = NeedleRigSim()
    table = Table(title="simulation, lock-step")
    for column in ("reference", "aligned", "docked", "success", "95 % interval", "s", "docking mm", "depth mm",
                   "lateral N", "times real time"):  # fmt: skip
        table.add_column(column)
    told = {}
    for name in REFERENCES:
        began = time.process_time()
        episodes = [run_reference(sim, name, asked.seed + i) for i in range(asked.episodes)]
        found = told[name] = summary(episodes)
        speed = sum(episode.seconds for episode in episodes) / (time.process_time() - began)
        interval = found["success_interval"]
        assert isinstance(interval, list)
        n = asked.episodes
        table.add_row(
            name, f"{found['aligned']}/{n}", f"{found['docked']}/{n}", f"{found['successes']}/{n}",
            f"{100 * interval[0]:.1f}-{100 * interval[1]:.1f} %", f"{found['seconds']:.1f}",
            *(f"{found[key]:.3f}" if found[key] is not None else "-"
              for key in ("docking_lateral", "depth_error_abs", "peak_lateral_force")),
            f"{speed:.0f}",
        )  # fmt: skip
    console = Console()
    # A pipe or a log has no width of its own.
    (console if console.is_terminal else Console(width=_PLAIN_WIDTH)).print(table)
    if asked.out is not None:
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        asked.out.write_text(json.dumps({"seed": asked.seed, "references": told}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
