"""Demonstrations: the clean action is stored, the pushed one executed; same seed, same bytes; no failures."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from clients.lerobot_v3 import encode_rgb
from clients.robots.metaworld_sim import MAX_STEPS, MetaWorldSim, SceneRenderer
from trainer.expert import (
    Perturbation,
    RolloutSettings,
    demonstrate,
    expert_action,
    make_expert,
)


def test_a_push_is_held_for_some_steps_and_the_gripper_is_never_disturbed():
    perturbation, clean = Perturbation(np.random.default_rng(0), 1.0), np.float32([0.1, -0.2, 0.3, 0.7])
    executed = np.stack([perturbation.executed(clean) for _ in range(3000)])
    pushed = np.any(executed != clean, axis=1)
    assert 0.1 < pushed.mean() < 0.5
    assert np.all(executed[:, 3] == clean[3])
    assert np.all(np.abs(executed) <= 1)
    changes = np.flatnonzero(np.diff(np.r_[False, pushed, False]))
    assert (changes[1::2] - changes[::2]).min() >= 3


def test_no_noise_executes_the_clean_action():
    perturbation, clean = Perturbation(np.random.default_rng(0), 0.0), np.float32([0.1, -0.2, 0.3, 0.7])
    for _ in range(300):
        np.testing.assert_array_equal(perturbation.executed(clean), clean)


def test_a_pushed_action_does_not_change_the_clean_one():
    perturbation, clean = Perturbation(np.random.default_rng(0), 1.0), np.zeros(4, np.float32)
    for _ in range(100):
        perturbation.executed(clean)
    assert not clean.any()


class Watched(MetaWorldSim):
    """Keeps the actions that were executed."""

    executed: list[np.ndarray]

    def reset(self, seed: int) -> None:
        super().reset(seed)
        self.executed = []

    def step(self, action):
        self.executed.append(np.asarray(action).copy())
        return super().step(action)


@pytest.fixture(scope="module")
def scene() -> Iterator[tuple[Watched, SceneRenderer]]:
    sim = Watched("reach", ("corner4",), 32)
    renderer = sim.make_renderer()
    yield sim, renderer
    renderer.close()
    sim.close()


class WatchedExpert:
    """Keeps what the scripted policy said."""

    def __init__(self) -> None:
        self.expert, self.said = make_expert("reach"), []

    def get_action(self, observation):
        action = self.expert.get_action(observation)
        self.said.append(np.clip(np.float32(action), -1, 1))
        return action


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_the_clean_action_is_stored_and_the_pushed_one_executed(scene, noise):
    sim, renderer = scene
    expert = WatchedExpert()
    episode = demonstrate(sim, renderer, expert, 7, RolloutSettings(noise=noise)).episode
    stored = episode.action.reshape(-1, 4)
    np.testing.assert_array_equal(stored, np.stack(expert.said))
    executed = np.stack(sim.executed)
    different = np.any(np.abs(stored[: len(executed)] - executed) > 1e-6, axis=1).mean()
    assert (different > 0.05) if noise else (different == 0)
    assert np.abs(stored).max() <= 1


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_what_was_executed_is_stored_as_well(scene, noise):
    sim, renderer = scene
    episode = demonstrate(sim, renderer, make_expert("reach"), 7, RolloutSettings(noise=noise)).episode
    executed = np.stack(sim.executed)
    np.testing.assert_array_equal(episode.executed_action.reshape(-1, 4)[: len(executed)], executed)
    assert episode.extra["demonstrated_from"] == 0


class Away:
    """Drives the hand sideways, seven actions at a time."""

    def start(self, sim, renderer, seed):
        self.count = 0

    def actions(self):
        self.count += 7
        return np.tile(np.float32([0.3, 0.001 * self.count, 0, 0]), (7, 1))


@pytest.mark.parametrize("lead_in", [0, 10, 1000])
def test_a_takeover_begins_with_what_the_driver_did_and_the_expert_would_have(scene, lead_in):
    sim, renderer = scene
    settings = RolloutSettings(noise=0.0, quality=0, takeover_within=60, lead_in=lead_in)
    episode = demonstrate(sim, renderer, make_expert("reach"), 11, settings, Away()).episode
    begins, lead = episode.extra["begins_at"], episode.extra["demonstrated_from"]
    takeover = begins + lead
    assert 0 < takeover <= 60
    assert begins == max(0, takeover - lead_in) // 4 * 4
    executed = np.stack(sim.executed)
    np.testing.assert_array_equal(executed[:takeover, 0], np.float32(0.3))
    stored, done = episode.action.reshape(-1, 4), episode.executed_action.reshape(-1, 4)
    np.testing.assert_array_equal(done[: len(executed) - begins], executed[begins:])
    np.testing.assert_array_equal(stored[lead:], done[lead:])
    assert (stored[:lead] != done[:lead]).any() == bool(lead)
    # Replaying what was executed comes by the recorded frames.
    rng = np.random.default_rng(11)
    sim.reset(int(rng.integers(2**31)))
    for action in executed[:begins]:
        sim.step(action)
    for frame in range(len(episode)):
        np.testing.assert_array_equal(sim.state, episode.state[frame])
        shown = np.asarray(Image.open(io.BytesIO(episode.images["corner4"][frame])))
        np.testing.assert_array_equal(shown, renderer.render(sim.physics_state())["corner4"])
        for action in done[4 * frame : 4 * frame + 4]:
            sim.step(action)


def test_a_driver_that_needs_no_help_shows_nothing(scene):
    class Expert:
        def start(self, sim, renderer, seed):
            self.sim, self.expert = sim, make_expert("reach")

        def actions(self):
            return expert_action(self.expert, self.sim.observation)[None]

    sim, renderer = scene
    settings = RolloutSettings(takeover_within=10**6)
    assert not demonstrate(sim, renderer, make_expert("reach"), 3, settings, Expert()).success


def test_frames_states_and_actions_belong_to_the_same_instant(scene):
    sim, renderer = scene
    settings = RolloutSettings(noise=0.0, image_every=4, quality=0)
    episode = demonstrate(sim, renderer, make_expert("reach"), 3, settings).episode
    sim.reset(int(np.random.default_rng(3).integers(2**31)))
    for frame in range(len(episode)):
        np.testing.assert_array_equal(sim.state, episode.state[frame])
        np.testing.assert_array_equal(sim.environment_state, episode.environment_state[frame])
        shown = np.asarray(Image.open(io.BytesIO(episode.images["corner4"][frame])))
        np.testing.assert_array_equal(shown, renderer.render(sim.physics_state())["corner4"])
        for action in episode.action[frame].reshape(4, 4):
            sim.step(action)
    assert episode.extra["control_steps"] == 4 * len(episode)


def test_a_demonstration_lingers_after_its_success(scene):
    sim, renderer = scene
    extra = demonstrate(sim, renderer, make_expert("reach"), 7, RolloutSettings()).episode.extra
    assert extra["metaworld_task"] == "reach"
    assert extra["seed"] == 7
    assert 10 <= extra["control_steps"] - extra["success_step"] < 26 + 4


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_ones(scene):
    sim, renderer = scene
    one, other, again = (
        demonstrate(sim, renderer, make_expert("reach"), seed, RolloutSettings()).episode
        for seed in (5, 6, 5)
    )
    assert list(one.images["corner4"]) == list(again.images["corner4"])
    np.testing.assert_array_equal(one.action, again.action)
    np.testing.assert_array_equal(one.state, again.state)
    assert dict(one.extra) == dict(again.extra)
    assert not np.array_equal(one.state[0], other.state[0]) or len(one) != len(other)


def test_an_attempt_that_fails_has_no_episode(scene):
    class Idle:
        @staticmethod
        def get_action(observation):
            return np.zeros(4)

    sim, renderer = scene
    attempt = demonstrate(sim, renderer, Idle(), 0, RolloutSettings(noise=0.0, image_every=100))
    assert (attempt.success, attempt.episode) == (False, None)
    assert sim.steps == MAX_STEPS


def test_jpeg_keeps_the_colour_of_a_marker_of_a_few_pixels():
    image = np.full((32, 32, 3), 120, np.uint8)
    image[10:13, 10:13] = (230, 20, 20)
    shown = np.asarray(Image.open(io.BytesIO(encode_rgb(image, 95)))).astype(int)
    assert np.abs(shown[11, 11] - [230, 20, 20]).max() < 30
    exact = np.asarray(Image.open(io.BytesIO(encode_rgb(image, 0))))
    np.testing.assert_array_equal(exact, image)


class IndifferentExpert:
    """Applies no effort to the gripper."""

    def get_action(self, observation):
        return np.array([0.5, 0.0, 0.0, 0.0])


@pytest.mark.parametrize(("opening", "effort"), [(0.4, -1.0), (1.0, 0.0)])
def test_a_gripper_that_closed_on_nothing_is_opened_again(opening, effort):
    observation = np.zeros(39, np.float32)
    observation[3] = opening
    assert expert_action(IndifferentExpert(), observation, reopen=True)[3] == effort
    assert expert_action(IndifferentExpert(), observation)[3] == 0.0
