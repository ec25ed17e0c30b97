"""Ceiling and floors of the simulated needle rig: `python -m trainer.rig_references` runs its expert in lock-step.

Beside the scripted expert, plain and with the pushes of demonstrations, stand doing nothing and random actions, under
the same protocol as policies and without rendering. `tinyvla evaluate --references` runs them beside a policy.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from clients.rig_sim.lockstep import NeedleRigSim
from trainer.evaluation.rig_actors import REFERENCES, RigReferenceActor
from trainer.evaluation.rig_rollout import RigEpisode, run_rig_episode
from trainer.evaluation.rig_summary import rig_markdown, rig_rows


def run_reference(sim: NeedleRigSim, name: str, seed: int, episode: int = 0) -> RigEpisode:
    """One episode of a reference."""
    return run_rig_episode(sim, RigReferenceActor(name), name, episode, seed)


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="rig_references", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--episodes", type=int, default=100, help="of each reference")
    parser.add_argument("--seed", type=int, default=1000, help="episode i is the scene of seed + i")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    asked = parser.parse_args(argv)
    sim = NeedleRigSim()
    began = time.process_time()
    episodes = [
        run_reference(sim, name, asked.seed + i, i) for name in REFERENCES for i in range(asked.episodes)
    ]
    speed = sum(episode.seconds for episode in episodes) / (time.process_time() - began)
    rows = rig_rows(episodes)
    last = asked.seed + asked.episodes - 1
    protocol = f"Simulation (needle rig), lock-step, without rendering: scenes {asked.seed}–{last}."
    console = Console()
    console.print(f"{protocol}\n\n{rig_markdown(rows)}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"{speed:.0f} times real time on one core", highlight=False)
    if asked.out is not None:
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        told = {"protocol": protocol, "rows": [dataclasses.asdict(row) for row in rows]}
        asked.out.write_text(json.dumps(told, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
