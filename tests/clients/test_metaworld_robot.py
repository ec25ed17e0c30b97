"""MetaWorld as a robot: seeded, counted, rendered from a copy, and the same pictures again afterwards."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from clients.robots.metaworld import MetaWorldRobot
from clients.robots.metaworld_sim import MAX_STEPS
from policy.errors import UsageError


@pytest.fixture(scope="module")
def robot() -> Iterator[MetaWorldRobot]:
    made = MetaWorldRobot("drawer-close", cameras=("corner4", "topview"), size=64, keep_replay=True)
    yield made
    made.close()


STILL = np.array([0.0, 0.0, 0.0, -1.0], np.float32)
FORWARD = np.array([0.0, 1.0, 0.0, -1.0], np.float32)


def test_an_observation_is_complete_and_stamped_with_the_actions_executed_before_it(robot):
    robot.reset(1)
    robot.hold(STILL)
    for _ in range(3):
        robot.act(FORWARD)
    robot.hold(STILL)
    seen = robot.observe()
    assert seen is not None
    assert seen.control_step == 3  # holding consumes no action
    assert robot.periods == 5  # but time passes
    assert {name: image.shape for name, image in seen.images.items()} == {
        "corner4": (64, 64, 3),
        "topview": (64, 64, 3),
    }
    assert seen.state.shape == (len(robot.info.state_names),)


def test_the_pictures_follow_the_motion(robot):
    robot.reset(1)
    before = robot.observe()
    for _ in range(30):
        robot.act(FORWARD)
    after = robot.observe()
    assert np.abs(after.state[:3] - before.state[:3]).max() > 0.05
    assert any((before.images[c].astype(int) - after.images[c]).any() for c in before.images)


def test_the_same_seed_gives_the_same_scene_and_another_seed_another(robot):
    pictures = []
    for seed in (1, 2, 1):
        robot.reset(seed)
        pictures.append(robot.observe().images["topview"])
    assert not np.array_equal(pictures[0], pictures[1])
    np.testing.assert_array_equal(pictures[0], pictures[2])


def test_holding_before_the_first_action_moves_neither_hand_nor_gripper(robot):
    robot.reset(1)
    before = robot.observe().state
    for _ in range(40):
        robot.hold(STILL)
    np.testing.assert_allclose(robot.observe().state, before, atol=5e-3)


def test_an_episode_ends_at_the_limit_and_ignores_what_comes_after(robot):
    robot.reset(1)
    while not robot.done:
        robot.hold(STILL)
    assert robot.periods == MAX_STEPS
    robot.hold(STILL)
    robot.act(FORWARD)
    assert robot.periods == MAX_STEPS
    assert not robot.success


def test_a_replay_shows_what_was_seen_and_what_was_commanded(robot):
    robot.reset(1)
    seen = robot.observe()
    sent = [np.float32([0.01 * i, 0.5, 0, -1]) for i in range(10)]
    for action in sent:
        robot.act(action)
    frames = list(robot.replay(every=4, cameras=("corner4",)))
    assert [frame.period for frame in frames] == [0, 4, 8]
    np.testing.assert_array_equal(frames[0].images["corner4"], seen.images["corner4"])
    np.testing.assert_array_equal(np.concatenate([frame.commands for frame in frames]), sent)


@pytest.mark.parametrize(
    ("task", "camera", "message"),
    [("reach-v9", "corner4", "did you mean"), ("reach", "rear", "no camera 'rear'")],
)
def test_an_unknown_task_or_camera_is_one_line(task, camera, message):
    with pytest.raises(UsageError, match=message):
        MetaWorldRobot(task, cameras=(camera,))
