"""One evaluation episode on the simulated needle rig, in lock-step: the rig waits for whoever acts."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from clients.rig_sim.lockstep import NeedleRigSim
from clients.rig_sim.stages import EpisodeMetrics
from trainer.evaluation.rig_actors import RigActor


@dataclass(frozen=True)
class RigEpisode(EpisodeMetrics):
    """What an episode came to, and whose it was."""

    actor: str
    episode: int
    seed: int  # of the scene
    chunks: int  # asked of a policy
    inference_ms: float | None  # median of its chunks; None where nothing is inferred


def run_rig_episode(sim: NeedleRigSim, actor: RigActor, name: str, episode: int, seed: int) -> RigEpisode:
    """Lay out the scene of `seed` and act until success, an abort or the time limit."""
    sim.reset(seed)
    actor.start(sim, seed)
    while not sim.done:
        for action in actor.actions():
            sim.step(action)
            if sim.done:
                break
    taken = actor.inference_ms
    return RigEpisode(
        **sim.core.stages.metrics().to_json(),
        actor=name,
        episode=episode,
        seed=seed,
        chunks=len(taken),
        inference_ms=round(median(taken), 2) if taken else None,
    )
