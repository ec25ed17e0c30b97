"""Evaluation in the simulator: what a policy is shown, when an episode ends, and what floors and ceiling reach."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from rich.console import Console

from clients.robots import metaworld_sim
from clients.robots.metaworld_sim import MAX_STEPS, MetaWorldSim, SceneRenderer
from policy.networks.config import NetworkConfig
from policy.networks.network import PolicyNetwork
from policy.null import NullPolicy, null_spec
from policy.observation import Observation, SampleOptions
from policy.spec import PolicySpec, StateSpec
from trainer.checkpoint import save_checkpoint
from trainer.evaluate import evaluate
from trainer.evaluation.actors import PolicyActor, ReferenceActor
from trainer.evaluation.rollout import run_episode
from trainer.evaluation.settings import EvaluateArgs
from trainer.evaluation.subject import load_policy


def metaworld_spec(size: int = 32) -> PolicySpec:
    spec = null_spec(cameras=("corner4",), size=size)
    state = StateSpec(names=metaworld_sim.STATE_NAMES, units=metaworld_sim.STATE_UNITS)
    return spec.model_copy(update={"state": state})


@pytest.fixture(scope="module")
def scene() -> Iterator[tuple[MetaWorldSim, SceneRenderer]]:
    sim = MetaWorldSim("reach", ("corner4",), 32)
    renderer = sim.make_renderer()
    yield sim, renderer
    renderer.close()
    sim.close()


class Watched(NullPolicy):
    """Keeps what it was shown and asked, and stands still."""

    def __init__(self) -> None:
        super().__init__(metaworld_spec())
        self.seen: list[Observation] = []
        self.asked: list = []

    def predict(self, observations, options):
        self.seen += observations
        self.asked += options
        return super().predict(observations, options)


def test_a_policy_is_shown_the_present_and_asked_every_few_steps(scene):
    sim, renderer = scene
    policy = Watched()
    result = run_episode(sim, renderer, PolicyActor(policy, 16, 7), "policy", 0, 5)
    assert len(policy.seen) == -(-result.steps // 16)
    assert all(options.ddim_steps == 7 for options in policy.asked)
    assert len({options.seed for options in policy.asked}) == len(policy.asked)
    assert {observation.instruction for observation in policy.seen} == {sim.instruction}
    sim.reset(5)
    np.testing.assert_array_equal(policy.seen[0].state, sim.state)
    expected = renderer.render(sim.physics_state())["corner4"]
    np.testing.assert_array_equal(policy.seen[0].images["corner4"], expected)
    assert not np.array_equal(policy.seen[0].images["corner4"], policy.seen[-1].images["corner4"])


def test_an_episode_is_decided_by_its_seed(scene):
    sim, renderer = scene
    policy = NullPolicy(metaworld_spec())
    one, again, other = (
        run_episode(sim, renderer, PolicyActor(policy, 16, None), "policy", 0, seed) for seed in (5, 5, 6)
    )
    assert one == again
    assert one.episode_return != other.episode_return


def test_an_episode_ends_at_the_first_success_and_at_the_limit(scene):
    sim, renderer = scene
    expert = run_episode(sim, renderer, ReferenceActor("expert"), "expert", 0, 5)
    assert expert.success
    assert expert.steps < 150
    idle = run_episode(sim, renderer, ReferenceActor("zero"), "zero", 0, 5)
    assert (idle.success, idle.steps) == (False, MAX_STEPS)
    assert idle.episode_return > 0  # why reward is never taken for success


def test_another_instruction_may_be_given(scene):
    sim, renderer = scene
    policy = Watched()
    actor = PolicyActor(policy, 48, None, "dance")
    sim.reset(0)
    actor.start(sim, renderer, 0)
    actor.actions()
    assert policy.seen[0].instruction == "dance"


CONFIG = NetworkConfig(vision_widths=(8, 8), blocks_per_stage=1, keypoints=4, text_dim=8, hidden_dim=24, layers=1,
                       heads=2, context_tokens=2, fusion_dim=16)  # fmt: skip


def test_the_weights_of_a_checkpoint_may_be_the_averaged_or_the_raw_ones(tmp_path):
    spec = metaworld_spec()
    raw, averaged = PolicyNetwork(spec, CONFIG), PolicyNetwork(spec, CONFIG)
    optimizer = torch.optim.AdamW(raw.parameters())
    for network, bias in ((raw, 0.5), (averaged, -0.5)):
        torch.nn.init.constant_(dict(network.named_parameters())["trunk.out.bias"], bias)
    save_checkpoint(tmp_path / "best", raw, averaged, optimizer, spec, {})
    seen = {camera.name: np.zeros((32, 32, 3), np.uint8) for camera in spec.cameras}
    observation = Observation(seen, np.zeros(4, np.float32), "reach")
    told = {
        weights: load_policy(EvaluateArgs(checkpoint=tmp_path / "best", weights=weights))
        .predict([observation], [SampleOptions(seed=0)])[0]
        .actions.mean()
        for weights in ("ema", "model")
    }
    assert told["ema"] < 0 < told["model"]


@pytest.mark.slow
def test_a_checkpoint_is_evaluated_beside_floors_and_ceiling(tmp_path):
    spec = metaworld_spec()
    network = PolicyNetwork(spec, CONFIG)
    optimizer = torch.optim.AdamW(network.parameters())
    save_checkpoint(tmp_path / "best", network, network, optimizer, spec, {})
    args = EvaluateArgs(
        out=tmp_path / "out", checkpoint=tmp_path / "best", tasks=("reach",), episodes=2, ddim_steps=2,
        references=True, workers=2,
    )  # fmt: skip
    rows = {row.actor: row for row in evaluate(args, Console(file=io.StringIO()))}
    assert set(rows) == {"policy", "zero", "random", "expert"}
    assert (rows["expert"].successes, rows["zero"].successes) == (2, 0)
    assert rows["policy"].successes == 0  # it predicts zero for everything
    results = [json.loads(line) for line in (tmp_path / "out" / "episodes.jsonl").read_text().splitlines()]
    seeds = {(r["actor"], r["episode"]): r["seed"] for r in results}
    for episode in (0, 1):  # everyone faced the same goals
        assert len({seeds[actor, episode] for actor in rows}) == 1
