"""The simulator as data and evaluation rely on it: goals from seeds, pictures of this episode, upright, and fast."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from clients.robots.metaworld_sim import (
    ENVIRONMENT_STATE_NAMES,
    MAX_STEPS,
    STATE_NAMES,
    MetaWorldSim,
    SceneRenderer,
)
from policy.errors import UsageError

CAMERAS = ("corner4", "corner")
GOAL = slice(14, 17)  # of the environment state


@dataclass
class Scene:
    sim: MetaWorldSim
    renderer: SceneRenderer

    def picture(self, camera: str = "corner4") -> np.ndarray:
        return self.renderer.render(self.sim.physics_state())[camera]

    def goal(self) -> np.ndarray:
        return self.sim.environment_state[GOAL]


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    sim = MetaWorldSim("reach", CAMERAS, 128)
    made = Scene(sim, sim.make_renderer())
    yield made
    made.renderer.close()
    sim.close()


def test_the_same_seed_gives_the_same_scene_and_another_seed_another_goal(scene):
    goals, pictures = [], []
    for seed in (1, 2, 1):
        scene.sim.reset(seed)
        goals.append(scene.goal())
        pictures.append(scene.picture())
    np.testing.assert_array_equal(goals[0], goals[2])
    np.testing.assert_array_equal(pictures[0], pictures[2])
    assert np.abs(goals[0] - goals[1]).max() > 0.01
    assert not np.array_equal(pictures[0], pictures[1])


def test_fifty_seeds_are_fifty_goals(scene):
    goals = []
    for seed in range(50):
        scene.sim.reset(seed)
        goals.append(scene.goal())
    assert len({goal.tobytes() for goal in goals}) == 50
    assert np.ptp(goals, axis=0).min() > 0.05  # metres, in every direction


def test_an_episode_does_not_depend_on_what_was_played_before(scene):
    actions = np.random.default_rng(0).uniform(-1, 1, (30, 4))

    def play(seed: int) -> np.ndarray:
        scene.sim.reset(seed)
        return np.stack([(scene.sim.step(action), scene.sim.observation)[1] for action in actions])

    first = play(3)
    play(4)
    np.testing.assert_array_equal(play(3), first)


def markers(scene: Scene, camera: str) -> tuple[np.ndarray, np.ndarray]:
    """Over some episodes: where the reddish things that vary are in the first frame [N, (row, column)], and goals."""
    pictures, goals = [], []
    for seed in range(24):
        scene.sim.reset(seed)
        for _ in range(seed % 3):  # leave the scene in another state than a reset does
            scene.sim.step(np.ones(4))
        scene.sim.reset(100 + seed)
        pictures.append(scene.picture(camera).astype(int))
        goals.append(scene.goal())
    usual = np.median(pictures, 0)
    places = []
    for picture in pictures:
        red = (np.abs(picture - usual).sum(-1) > 100) & (picture[..., 0] > picture[..., 1] + 80)
        assert red.any()
        places.append(np.argwhere(red).mean(0))
    return np.stack(places), np.stack(goals)


def stock_picture(sim: MetaWorldSim, camera: str = "corner4") -> np.ndarray:
    """What MuJoCo's own renderer shows of the simulator's data as they are, nothing worked out anew."""
    import mujoco

    renderer = mujoco.Renderer(sim._env.model, 128, 128)
    try:
        renderer.update_scene(sim._env.data, camera=camera)
        return renderer.render()
    finally:
        renderer.close()


def test_right_after_a_reset_the_goal_marker_stands_at_the_goal(scene):
    for seed in (10, 11, 10):
        scene.sim.reset(seed)
        np.testing.assert_allclose(scene.sim._env.data.site("goal").xpos, scene.goal(), atol=1e-6)


@pytest.mark.parametrize("task", ["reach", "peg-insert-side", "drawer-open"])
def test_the_first_frame_shows_this_episode_and_not_another_one(task):
    """MetaWorld's reset leaves markers and bodies where they were until the kinematics run."""
    sim = MetaWorldSim(task, CAMERAS, 64)
    renderer = sim.make_renderer()
    import mujoco  # only now: the first import settles how MuJoCo renders

    pictures = []
    for seed in (10, 11):
        sim.reset(seed)
        pictures.append(stock_picture(sim))
        seen = renderer.render(sim.physics_state())
        mujoco.mj_forward(sim._env.model, sim._env.data)
        np.testing.assert_array_equal(stock_picture(sim), pictures[-1])
        for camera, image in renderer.render(sim.physics_state()).items():
            np.testing.assert_array_equal(image, seen[camera])
    assert (pictures[0] != pictures[1]).any(-1).sum() > 10  # so a stale one would have shown
    renderer.close()
    sim.close()


@pytest.mark.parametrize("camera", CAMERAS)
def test_pictures_are_upright(scene, camera):
    """A goal that is higher in the world is higher in the picture, as MetaWorld's own renderer does not have it."""
    places, goals = markers(scene, camera)
    inputs = np.column_stack([goals, np.ones(len(goals))])
    fit, *_ = np.linalg.lstsq(inputs, places, rcond=None)
    assert fit[2, 0] < -15  # rows per metre of height; rows count downwards


@pytest.mark.parametrize("camera", CAMERAS)
def test_pictures_are_those_of_mujocos_renderer_turned_by_180_degrees(scene, camera):
    scene.sim.reset(5)
    ours = scene.picture(camera).astype(int)
    theirs = stock_picture(scene.sim, camera)[::-1, ::-1].astype(int)
    # Shadows and reflections are left out, so most pixels are equal, not all.
    assert np.median(np.abs(ours - theirs)) <= 2
    for wrong in (ours[::-1], ours[:, ::-1], ours[::-1, ::-1]):
        assert np.abs(wrong - theirs).mean() > 4 * np.abs(ours - theirs).mean()


@pytest.mark.parametrize("size", [32, 84, 128])
def test_pictures_have_the_asked_size_and_are_plain_rgb_arrays(scene, size):
    renderer = SceneRenderer(scene.sim._env.model, CAMERAS, size)
    try:
        scene.sim.reset(0)
        images = renderer.render(scene.sim.physics_state())
    finally:
        renderer.close()
    assert list(images) == list(CAMERAS)
    for image in images.values():
        assert image.shape == (size, size, 3)
        assert image.dtype == np.uint8
        assert image.flags.c_contiguous
        assert image.std() > 10  # not a blank frame
    assert not np.array_equal(*images.values())


def test_a_picture_is_kept_when_the_next_is_rendered(scene):
    scene.sim.reset(1)
    first = scene.picture()
    kept = first.copy()
    scene.sim.reset(2)
    scene.picture()
    np.testing.assert_array_equal(first, kept)


def test_the_policy_sees_the_hand_and_never_the_objects(scene):
    scene.sim.reset(0)
    assert scene.sim.state.shape == (len(STATE_NAMES),) == (4,)
    np.testing.assert_array_equal(scene.sim.state, scene.sim.observation[:4])
    assert scene.sim.environment_state.shape == (len(ENVIRONMENT_STATE_NAMES),) == (17,)
    np.testing.assert_array_equal(scene.goal(), scene.sim.observation[36:39])
    assert np.abs(scene.goal()).max() > 0  # the goal is told to experts and training targets
    scene.sim.state[:] = 9  # a copy
    assert scene.sim.observation[0] != 9


def test_actions_are_clipped_and_steps_counted(scene):
    after = []
    for scale in (1.0, 50.0):
        scene.sim.reset(0)
        for _ in range(5):
            scene.sim.step(np.full(4, scale))
        assert scene.sim.steps == 5
        after.append(scene.sim.observation)
    np.testing.assert_array_equal(*after)
    assert MAX_STEPS == 500


def test_the_expert_solves_what_doing_nothing_does_not(scene):
    from trainer.expert import expert_action, make_expert

    expert, solved = make_expert("reach"), {"expert": 0, "nothing": 0}
    for seed in range(3):
        for actor in solved:
            scene.sim.reset(seed)
            for _ in range(150):
                action = expert_action(expert, scene.sim.observation) if actor == "expert" else np.zeros(4)
                if scene.sim.step(action).success:
                    solved[actor] += 1
                    break
    assert solved == {"expert": 3, "nothing": 0}


def test_an_unknown_task_or_camera_is_one_line():
    with pytest.raises(UsageError, match=r"no task 'drawer-opn'; did you mean drawer-open"):
        MetaWorldSim("drawer-opn")
    with pytest.raises(UsageError, match=r"no camera 'rear'; it has .*corner4"):
        MetaWorldSim("reach", ("rear",))


def test_without_a_gl_library_the_install_line_is_given():
    code = (
        "from clients.robots import offscreen_gl\n"
        "offscreen_gl._loads = lambda library: False\n"
        "offscreen_gl.select_gl_backend()"
    )
    environment = {"PATH": "/usr/bin:/bin"}  # no MUJOCO_GL chosen by hand
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert "apt-get install -y libegl1" in found.stderr


@pytest.mark.slow
def test_a_program_that_imported_mujoco_first_renders_offscreen_too():
    code = (
        "import mujoco\n"
        "from clients.robots.offscreen_gl import select_gl_backend\n"
        "backend = select_gl_backend()\n"
        "model = mujoco.MjModel.from_xml_string('<mujoco><worldbody><geom size=\"1\"/></worldbody></mujoco>')\n"
        "renderer = mujoco.Renderer(model, 16, 16)\n"
        "renderer.update_scene(mujoco.MjData(model))\n"
        "print(backend, renderer.render().shape)\n"
        "renderer.close()"
    )
    environment = {"PATH": "/usr/bin:/bin"}  # no MUJOCO_GL chosen by hand, and no display
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert found.stdout.split(maxsplit=1)[1].strip() == "(16, 16, 3)", found.stderr
