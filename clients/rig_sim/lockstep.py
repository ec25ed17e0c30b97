"""The simulated rig in lock-step: it waits for whoever steps it, for demonstrations and evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clients.rig_sim.layout import Layout
from clients.rig_sim.parameters import RigParameters, load_parameters
from clients.rig_sim.scene import RigRenderer
from clients.rig_sim.sim import RigSim, ScenePose
from clients.rig_sim.timing import TICKS_PER_CONTROL
from clients.robots.needle_rig_contract import (
    ACTION_LIMIT,
    INSTRUCTION,
    SENSOR,
    SENSOR_RATE_HZ,
    SENSOR_WINDOW,
    TASK,
    VIEWS,
)
from clients.robots.rig_wire import Command
from clients.sensor_window import causal_window

# Privileged, for training-only targets: the tip from the entry and the needle against the axis, both in the arm's
# own axes, and the distance that only the A-line shows.
ENVIRONMENT_STATE_NAMES = (
    *(f"tip_from_entry_{axis}" for axis in "xyz"),
    *(f"needle_off_axis_{axis}" for axis in "xyz"),
    "tip_to_retina",
)
ENVIRONMENT_STATE_UNITS = (*("mm",) * 3, *("deg",) * 3, "mm")

_FAR_MM = 100.0  # stands for a retina that the needle does not point at


@dataclass(frozen=True)
class SceneSnapshot:
    """Enough to render from, on any thread."""

    layout: Layout
    pose: ScenePose


class NeedleRigSim:
    """One needle insertion, 20 actions a second; `core` holds the truth."""

    task = TASK
    instruction = INSTRUCTION

    def __init__(self, parameters: RigParameters | None = None, cameras: Sequence[str] = VIEWS) -> None:
        self.parameters = parameters or load_parameters()
        self.cameras = tuple(cameras)
        self.core = RigSim(self.parameters)
        self.steps = 0

    def reset(self, seed: int) -> None:
        """Lay out the scene of `seed` and start the arm."""
        self.core.reset(seed)
        self.core.command(Command("start"))
        self.steps = 0

    def step(self, action: np.ndarray) -> bool:
        """Execute one action [6], mm and degrees, clipped to the bounds; whether the episode has succeeded."""
        clipped = np.clip(np.asarray(action, np.float64), -ACTION_LIMIT, ACTION_LIMIT)
        self.core.command(Command("dpose", tuple(clipped.tolist())))
        for _ in range(TICKS_PER_CONTROL):
            self.core.tick()
        self.steps += 1
        return self.success

    @property
    def done(self) -> bool:
        """Success, an abort or the time limit."""
        return self.core.stages.over

    @property
    def success(self) -> bool:
        return self.core.stages.metrics().success

    @property
    def state(self) -> np.ndarray:
        """float32 [12]: the reported pose, mm and degrees, and the joints, degrees."""
        return np.concatenate([self.core.reported_pose(), self.core.joints()]).astype(np.float32)

    @property
    def environment_state(self) -> np.ndarray:
        """Privileged float32 [7], see `ENVIRONMENT_STATE_NAMES`; never a policy's input."""
        core = self.core
        offset = core.layout.to_base(_minus(core.tip, core.eye.entry))
        askew = np.degrees(core.layout.to_base(_minus(core.direction, core.eye.axis)))
        return np.array([*offset, *askew, min(_FAR_MM, core.situation().retina_distance)], np.float32)

    def sensors(self) -> dict[str, np.ndarray]:
        """The sensor's window up to now, float32 [T <= 65, 1026]."""
        sensor = self.core.sensor
        first = max(0, sensor.count - SENSOR_WINDOW - 1)
        times, values = self.stream(first)
        window = causal_window(times, values, self.core.time, samples=SENSOR_WINDOW, rate_hz=SENSOR_RATE_HZ)
        return {SENSOR: window}

    def stream(self, first: int = 0, end: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Samples `first` ... `end` of the episode: float64 times [n], 0 at the start, and float32 values [n, 1026]."""
        sensor = self.core.sensor
        end = sensor.count if end is None else end
        return sensor.times(first, end) - self.core.settled_at, sensor.values(first, end)

    def snapshot(self) -> SceneSnapshot:
        """What a picture of now depends on."""
        return SceneSnapshot(self.core.layout, self.core.scene_pose())

    def make_renderer(self, height: int | None = None, width: int | None = None) -> RigRenderer:
        """A renderer of this rig's scenes; make, use and close it on one thread."""
        return RigRenderer(self.parameters, self.cameras, height=height, width=width)


def _minus(a: tuple[float, float, float], b: tuple[float, float, float]) -> tuple[float, float, float]:
    return (a[0] - b[0], a[1] - b[1], a[2] - b[2])
