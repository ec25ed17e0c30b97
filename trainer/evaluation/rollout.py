"""One evaluation episode in lock-step: the simulator waits for the actor."""

from __future__ import annotations

from dataclasses import dataclass

from clients.robots.metaworld_sim import MAX_STEPS, MetaWorldSim, SceneRenderer
from trainer.evaluation.actors import Actor


@dataclass(frozen=True)
class EpisodeResult:
    """What came of an episode; it ends at the first success, which is MetaWorld's official metric."""

    task: str
    actor: str
    episode: int
    seed: int
    success: bool
    steps: int
    episode_return: float


def run_episode(
    sim: MetaWorldSim, renderer: SceneRenderer, actor: Actor, name: str, episode: int, seed: int
) -> EpisodeResult:
    """Reset from `seed` and act until success or 500 steps."""
    sim.reset(seed)
    actor.start(sim, renderer, seed)
    total = 0.0
    success = False
    while sim.steps < MAX_STEPS and not success:
        for action in actor.actions():
            outcome = sim.step(action)
            total += outcome.reward
            success = outcome.success
            if success or sim.steps >= MAX_STEPS:
                break
    return EpisodeResult(sim.task, name, episode, seed, success, sim.steps, round(total, 3))
