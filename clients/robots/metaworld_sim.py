"""MetaWorld as this project uses it: seeded goals, fast offscreen rendering, the policy's view of the state.

The simulator here is stepped by whoever holds it; `clients.robots.metaworld` steps it by the wall clock,
collection and evaluation as fast as they can.
"""

from __future__ import annotations

import atexit
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clients.robots.metaworld_tasks import instruction, task_name
from clients.robots.offscreen_gl import plain_renderer, select_gl_backend
from policy.errors import UsageError

CONTROL_RATE_HZ = 80.0
MAX_STEPS = 500
STATE_NAMES = ("hand_x", "hand_y", "hand_z", "gripper_opening")
STATE_UNITS = ("m", "m", "m", "1")
ACTION_NAMES = ("hand_dx", "hand_dy", "hand_dz", "gripper_effort")
ACTION_UNITS = ("cm per step", "cm per step", "cm per step", "1")
DEFAULT_CAMERAS = ("corner4", "corner")
# Object pose (7), second object's pose (7), goal (3). Privileged: for experts and training-only targets.
ENVIRONMENT_STATE_NAMES = tuple(
    [f"object_{axis}" for axis in ("x", "y", "z", "qx", "qy", "qz", "qw")]
    + [f"object2_{axis}" for axis in ("x", "y", "z", "qx", "qy", "qz", "qw")]
    + ["goal_x", "goal_y", "goal_z"]
)


@dataclass(frozen=True)
class SimStep:
    """What one control step led to."""

    reward: float
    success: bool


class MetaWorldSim:
    """One MetaWorld task.

    Args:
        task: plain name or with `-v3`.
        cameras: MetaWorld camera names.
        size: height and width of the rendered images, pixels.

    Raises:
        UsageError: unknown task or camera, or no offscreen GL library.
    """

    def __init__(self, task: str, cameras: Sequence[str] = DEFAULT_CAMERAS, size: int = 128) -> None:
        self.task = task_name(task)
        self.instruction = instruction(self.task)
        self.cameras = tuple(cameras)
        self.size = size
        select_gl_backend()
        try:
            from metaworld.env_dict import ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE
        except ImportError as error:
            raise UsageError(
                f"MetaWorld is not installed ({error}); run: pip install -c constraints.txt -e '.[sim]'"
            ) from error
        make: Any = ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE[f"{self.task}-v3-goal-observable"]
        self._env = make(seed=0)
        # Without these two `reset` keeps one goal for ever, whatever the seed.
        self._env._freeze_rand_vec = False
        self._env.seeded_rand_vec = True
        known = [self._env.model.camera(i).name for i in range(self._env.model.ncam)]
        unknown = [camera for camera in self.cameras if camera not in known]
        if unknown:
            raise UsageError(f"MetaWorld has no camera {unknown[0]!r}; it has {', '.join(known)}")
        self.observation = np.zeros(39, np.float32)  # full observation, goal included
        self.steps = 0

    def reset(self, seed: int) -> None:
        """Start an episode whose object and goal positions follow from `seed` alone."""
        import mujoco

        self._env.seed(seed)
        observation, _ = self._env.reset()
        # Until the kinematics run, the goal marker still stands where the previous episode had it.
        mujoco.mj_forward(self._env.model, self._env.data)
        self.observation = np.asarray(observation, np.float32)
        self.steps = 0

    def step(self, action: np.ndarray) -> SimStep:
        """Advance by one control period (1/80 s). `action` is [4], clipped to [-1, 1]."""
        clipped = np.clip(np.asarray(action, np.float64), -1.0, 1.0)
        observation, reward, _, _, info = self._env.step(clipped)
        self.observation = np.asarray(observation, np.float32)
        self.steps += 1
        return SimStep(float(reward), bool(info["success"]))

    @property
    def state(self) -> np.ndarray:
        """What a policy may know besides images: float32 [4], see `STATE_NAMES`."""
        return self.observation[:4].copy()

    @property
    def environment_state(self) -> np.ndarray:
        """Privileged float32 [17], see `ENVIRONMENT_STATE_NAMES`; never a policy's input."""
        return np.concatenate([self.observation[4:18], self.observation[36:39]])

    def physics_state(self) -> np.ndarray:
        """A copy of the physics, enough for a renderer on another thread."""
        import mujoco

        model, data = self._env.model, self._env.data
        spec = mujoco.mjtState.mjSTATE_INTEGRATION
        state = np.empty(mujoco.mj_stateSize(model, spec), np.float64)
        mujoco.mj_getState(model, data, state, spec)
        return state

    def lift_step_limit(self) -> None:
        """Let an episode be longer than `MAX_STEPS`, beyond which MetaWorld refuses to step."""
        self._env.max_path_length = sys.maxsize

    def make_renderer(self, size: int | None = None) -> SceneRenderer:
        """A renderer of this scene, of another image size if asked; make, use and close it on one thread."""
        return SceneRenderer(self._env.model, self.cameras, size or self.size)

    def close(self) -> None:
        self._env.close()


class SceneRenderer:
    """Renders the scene from a physics state. Owns a GL context, which belongs to the thread that made it."""

    def __init__(self, model: Any, cameras: Sequence[str], size: int) -> None:
        import mujoco

        self._mujoco = mujoco
        self._model = model
        self._data = mujoco.MjData(model)
        self._cameras = tuple(cameras)
        # Multisampling, shadows and reflections are 8/9 of a software renderer's time and carry no information.
        model.vis.quality.offsamples = 0
        self._renderer = plain_renderer(mujoco, model, size, size)
        # MuJoCo terminates EGL at exit; a context that still lives then prints errors.
        atexit.register(self.close)

    def render(
        self, physics_state: np.ndarray, cameras: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Camera name -> uint8 [size, size, 3] RGB, turned by 180 degrees so that `corner*` stand upright."""
        mujoco = self._mujoco
        mujoco.mj_setState(self._model, self._data, physics_state, mujoco.mjtState.mjSTATE_INTEGRATION)
        mujoco.mj_forward(self._model, self._data)
        images = {}
        for camera in cameras or self._cameras:
            self._renderer.update_scene(self._data, camera=camera)
            images[camera] = np.ascontiguousarray(self._renderer.render()[::-1, ::-1])
        return images

    def close(self) -> None:
        """Free the GL context; may be called twice."""
        atexit.unregister(self.close)
        self._renderer.close()
