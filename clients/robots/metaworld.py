"""MetaWorld as a robot in real time: stepped by the control thread's clock, rendered on a thread of its own.

The simulator waits for nobody: a period in which no action is planned is a period of holding still, and
it counts towards the 500 steps of an episode. Frames are made on demand from a copy of the physics, so an
observation is as fresh as rendering allows and rendering never delays a control step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from clients.robots.base import ReplayFrame, RobotInfo, RobotObservation, RobotRequest
from clients.robots.metaworld_sim import (
    ACTION_NAMES,
    CONTROL_RATE_HZ,
    DEFAULT_CAMERAS,
    MAX_STEPS,
    STATE_NAMES,
    MetaWorldSim,
    SceneRenderer,
)

GRIPPER = 3
# MetaWorld's reset leaves the gripper commanded open; holding before the first action must not close it.
RESTING_COMMAND = (0.0, 0.0, 0.0, -1.0)


def make(request: RobotRequest) -> MetaWorldRobot:
    """The task's robot with the cameras that the policy looks at.

    Raises:
        UsageError: see `MetaWorldRobot`.
    """
    # MetaWorld renders squares; the policy letterboxes or stretches them to what its contract says.
    size = max((max(camera.height, camera.width) for camera in request.spec.cameras), default=128)
    return MetaWorldRobot(request.task, cameras=request.cameras, size=size, keep_replay=request.keep_replay)


@dataclass(frozen=True)
class _Snapshot:
    physics: np.ndarray  # a copy, enough to render from
    state: np.ndarray  # float32 [4]
    control_step: int
    at: float


class MetaWorldRobot:
    """One task of MetaWorld.

    Args:
        task: plain name or with `-v3`.
        cameras: MetaWorld camera names, those of the policy.
        size: pixels of a rendered side.
        keep_replay: keep each period's physics, so that `replay` can render the episode afterwards.
        clock: monotonic seconds; an evaluation passes simulated time.

    Raises:
        UsageError: unknown task or camera, MetaWorld or an offscreen GL library missing.
    """

    def __init__(
        self,
        task: str,
        *,
        cameras: Sequence[str] = DEFAULT_CAMERAS,
        size: int = 128,
        keep_replay: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._sim = MetaWorldSim(task, cameras, size)
        self.info = RobotInfo(
            name="metaworld",
            task=self._sim.task,
            cameras=self._sim.cameras,
            state_names=STATE_NAMES,
            action_names=ACTION_NAMES,
            action_kind="delta",
            control_rate_hz=CONTROL_RATE_HZ,
            instruction=self._sim.instruction,
            resting_command=np.asarray(RESTING_COMMAND, np.float32),
            kept_on_hold=(GRIPPER,),
        )
        self._renderers: dict[int, SceneRenderer] = {}  # by size; used on the render thread only
        # One worker, because a GL context belongs to the thread that made it.
        self._render_thread = ThreadPoolExecutor(1, thread_name_prefix="render")
        self._keep_replay = keep_replay
        self._replay: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []  # physics, state, command
        self._control_step = 0
        self._success = False
        self._newest: _Snapshot | None = None
        try:
            self._render_thread.submit(self._renderer, size).result()
        except BaseException:
            self._render_thread.shutdown()
            self._sim.close()
            raise

    def reset(self, seed: int) -> None:
        """Start an episode whose object and goal positions follow from `seed` alone."""
        self._sim.reset(seed)
        self._replay.clear()
        self._control_step, self._success = 0, False
        self._publish()

    def observe(self) -> RobotObservation | None:
        """Render the newest state now; blocks for one frame (some 10 ms on two cores)."""
        return None if self._newest is None else self.look_later()()

    def look_later(self) -> Callable[[], RobotObservation]:
        """The state of this instant, rendered when the result is called."""
        snapshot = self._newest
        assert snapshot is not None
        return lambda: self._render_thread.submit(self._observed, snapshot).result()

    def act(self, action: np.ndarray) -> None:
        """Step the simulator by one control period; counts a control step."""
        self._control_step += 1
        self._step(np.asarray(action, np.float32))

    def hold(self, command: np.ndarray) -> None:
        """Step the simulator by one control period that counts no control step."""
        self._step(np.asarray(command, np.float32))

    @property
    def done(self) -> bool:
        """First success, or 500 control periods."""
        return self._success or self._sim.steps >= MAX_STEPS

    @property
    def success(self) -> bool:
        return self._success

    @property
    def periods(self) -> int:
        """Control periods since the reset, held ones included."""
        return self._sim.steps

    def replay(
        self, every: int, cameras: Sequence[str] | None = None, size: int | None = None
    ) -> Iterator[ReplayFrame]:
        """Render the episode that ended, one frame every `every` control periods; needs `keep_replay`."""
        for start in range(0, len(self._replay), every):
            group = self._replay[start : start + every]
            physics, state, _ = group[0]
            images = self._render_thread.submit(self._render, physics, cameras, size).result()
            yield ReplayFrame(start, images, state, np.stack([command for _, _, command in group]))

    def close(self) -> None:
        self._render_thread.submit(self._close_renderers).result()
        self._render_thread.shutdown()
        self._sim.close()

    def _step(self, command: np.ndarray) -> None:
        if self.done:  # MetaWorld refuses steps beyond its limit; the episode is over
            return
        if self._keep_replay and self._newest is not None:
            self._replay.append((self._newest.physics, self._newest.state, command))
        self._success = self._sim.step(command).success
        self._publish()

    def _publish(self) -> None:
        self._newest = _Snapshot(
            self._sim.physics_state(), self._sim.state, self._control_step, self._clock()
        )

    def _renderer(self, size: int) -> SceneRenderer:
        if size not in self._renderers:
            self._renderers[size] = self._sim.make_renderer(size)
        return self._renderers[size]

    def _close_renderers(self) -> None:
        for renderer in self._renderers.values():
            renderer.close()

    def _render(
        self, physics: np.ndarray, cameras: Sequence[str] | None = None, size: int | None = None
    ) -> dict[str, np.ndarray]:
        return self._renderer(size or self._sim.size).render(physics, cameras)

    def _observed(self, snapshot: _Snapshot) -> RobotObservation:
        return RobotObservation(
            images=self._render(snapshot.physics),
            state=snapshot.state,
            control_step=snapshot.control_step,
            captured_at=snapshot.at,
        )
