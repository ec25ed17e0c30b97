"""The shipped policy moves the robot, and what it sees is why: each of the founding defects would fail here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clients.robots.metaworld_sim import MetaWorldSim
from policy.bundle import load_bundle
from policy.loaded import LoadedPolicy
from policy.observation import Observation, SampleOptions
from trainer.evaluation.actors import PolicyActor
from trainer.evaluation.rollout import run_episode
from trainer.evaluation.worker import episode_seed

BUNDLE = Path(__file__).resolve().parents[2] / "bundles" / "metaworld8"
TASK, EPISODES = "button-press-topdown", 6

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def policy() -> LoadedPolicy:
    return load_bundle(BUNDLE)


class MispairedImages(PolicyActor):
    """Shows the policy the images of another episode's start beside its own state, as mispaired data would."""

    def start(self, sim, renderer, seed):
        super().start(sim, renderer, seed)
        sim.reset(seed + 1)
        self._other = renderer.render(sim.physics_state())
        sim.reset(seed)

    def observe(self) -> Observation:
        own = super().observe()
        return Observation(self._other, own.state, own.instruction)


def successes(actor: PolicyActor) -> int:
    sim = MetaWorldSim(TASK)
    renderer = sim.make_renderer()
    try:
        seeds = [episode_seed(0, TASK, number) for number in range(EPISODES)]
        return sum(
            run_episode(sim, renderer, actor, "policy", i, seed).success for i, seed in enumerate(seeds)
        )
    finally:
        renderer.close()
        sim.close()


def test_it_succeeds_on_goals_it_never_saw_and_images_of_another_episode_destroy_that(policy):
    with_its_images = successes(PolicyActor(policy, execute=16, ddim_steps=10))
    with_others = successes(MispairedImages(policy, execute=16, ddim_steps=10))
    assert with_its_images >= EPISODES - 2
    assert with_others <= with_its_images // 2


def test_the_goals_position_is_read_off_the_images(policy):
    """Only the marker's place differs between two scenes of `reach`; the chunks must part towards it."""
    sim = MetaWorldSim("reach")
    renderer = sim.make_renderer()
    try:
        moves, goals = [], []
        for seed in range(6):
            sim.reset(seed)
            observation = Observation(renderer.render(sim.physics_state()), sim.state, sim.instruction)
            chunk = policy.predict([observation], [SampleOptions(seed=0)])[0].actions
            moves.append(chunk[:16, :3].sum(0))
            goals.append(sim.environment_state[-3:] - sim.state[:3])
    finally:
        renderer.close()
        sim.close()
    cosines = [m @ g / np.linalg.norm(m) / np.linalg.norm(g) for m, g in zip(moves, goals, strict=True)]
    assert np.mean(cosines) > 0.8
    # The first move towards one goal is not the first move towards another.
    directions = np.array([m / np.linalg.norm(m) for m in moves])
    assert np.linalg.norm(directions - directions.mean(0), axis=1).max() > 0.1


def test_the_contract_of_the_shipped_bundle_is_the_issues_one(policy):
    spec = policy.spec
    assert (spec.horizon, spec.action.rate_hz) == (48, 80.0)
    assert spec.sampler is not None
    assert spec.sampler.default_steps == 10
    assert spec.max_prefix > 0
    assert len(spec.instruction.by_task) == 8
    assert sum(path.stat().st_size for path in BUNDLE.iterdir()) <= 8_000_000
