"""The simulated rig in real time: ticked by the wall clock at 100 Hz, it speaks the rig's wire and waits for nobody."""

from __future__ import annotations

import io
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from clients.rig_sim.faults import Faults
from clients.rig_sim.layout import Layout
from clients.rig_sim.parameters import RigParameters
from clients.rig_sim.rig_sockets import RigSockets
from clients.rig_sim.scene import RigRenderer
from clients.rig_sim.sim import RigSim, ScenePose
from clients.rig_sim.timing import STEPS_PER_SECOND, TICK_S, TICKS_PER_FRAME, seconds
from clients.robots.needle_rig_contract import VIEWS
from clients.robots.rig_wire import CameraFrame, Command, RobotState, SensorRecords
from clients.robots.rig_wire_status import RigStatus

# What the wire calls the views: four ZED stereo cameras' left eyes, by serial number, and an OAK.
WIRE_CAMERAS = {
    "view1": "ZED_11000001_left",
    "view2": "ZED_11000002_left",
    "view3": "ZED_11000003_left",
    "view4": "ZED_11000004_left",
    "view5": "OAK",
}
_TICKS_PER_DATAGRAM = 2  # 13 samples
_TICKS_PER_STATUS = 10
# After a pause longer than this (a suspended machine) the simulation goes on from now instead of catching up.
_LONGEST_CATCH_UP_S = 1.0


@dataclass(frozen=True)
class _Shot:
    layout: Layout
    pose: ScenePose
    at: float  # on the rig's clock
    episode_time: float


class LiveRig:
    """The rig behind its wire, until `stop` is set.

    Args:
        parameters: of the rig.
        sockets: used by this object's threads from `run` on; pictures are handed over to the ticking thread.
        faults: what goes wrong on purpose.
        seed: of the scene before the first `start` that names one.
        log: told one line whenever something worth knowing happens.
        clock: the wall clock, seconds.
    """

    def __init__(
        self,
        parameters: RigParameters,
        sockets: RigSockets,
        faults: Faults | None = None,
        *,
        seed: int = 0,
        log: Callable[[str], None] = lambda line: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._faults = faults or Faults()
        self._parameters, self._sockets, self._log, self._clock = parameters, sockets, log, clock
        self._sim = RigSim(parameters)
        self._episode = 0
        self._shots: queue.Queue[_Shot | None] = queue.Queue(1)
        self._pictures: queue.SimpleQueue[CameraFrame] = queue.SimpleQueue()
        self._failure: Exception | None = None
        self._due = time.monotonic()  # when the running tick ends
        self._begin(seed)

    def run(self, stop: threading.Event) -> None:
        """Tick until `stop` is set.

        Raises:
            UsageError: pictures cannot be rendered here.
        """
        painter = threading.Thread(target=self._paint, name="rig-render", daemon=True)
        painter.start()
        self._due = time.monotonic()
        self._epoch = self._now() - seconds(self._sim.step)
        ticks = 0
        try:
            while not stop.is_set() and self._failure is None:
                self._due += TICK_S
                late = time.monotonic() - self._due
                if late > _LONGEST_CATCH_UP_S:
                    self._sockets.counts["stalls"] += 1
                    self._log(f"the rig stood still for {late:.1f} s")
                    self._due += late
                    self._epoch += late
                elif late < 0:
                    stop.wait(-late)
                ticks += 1
                self._tick(ticks)
        finally:
            # A shot that still waits goes first; then the painter sees the end.
            self._shots.put(None)
            painter.join()
        if self._failure is not None:
            raise self._failure

    def _tick(self, ticks: int) -> None:
        for command in self._sockets.commands():
            self._obey(command)
        sim, sockets = self._sim, self._sockets
        sim.tick()
        now = self._time_of(sim.step)
        if not self._faults.lost():
            pose, joints = sim.reported_pose(), sim.joints()
            state = RobotState(
                now, self._now(), sim.wrist_force, tuple(joints.tolist()), tuple(pose.tolist())
            )
            sockets.send_state(state)
        if ticks % _TICKS_PER_DATAGRAM == 0:
            self._send_samples()
        if ticks % TICKS_PER_FRAME == 0:
            try:
                self._shots.put_nowait(_Shot(sim.layout, sim.scene_pose(), now, sim.time))
            except queue.Full:
                sockets.counts["pictures skipped"] += len(VIEWS)
        while not self._pictures.empty():
            sockets.send_camera(replace(self._pictures.get(), send_time=self._now()))
        if ticks % _TICKS_PER_STATUS == 0:
            self._send_status()

    def _obey(self, command: Command) -> None:
        if command.cmd == "start" and command.seed is not None:
            self._begin(command.seed)
        if not self._sim.command(command):
            self._sockets.counts["commands ignored"] += 1
        self._sockets.counts["commands"] += 1

    def _begin(self, seed: int) -> None:
        # The scene settles in no time at all, and none of it is sent: the tick that goes on from here ends when it is
        # due, however late it runs and however long the scene took to lay out.
        self._sim.reset(seed)
        self._sent = self._sim.sensor.count
        self._epoch = self._now() - (time.monotonic() - self._due) - TICK_S - seconds(self._sim.step)
        self._since = self._now()
        self._episode += 1
        self._over_told = False

    def _send_samples(self) -> None:
        sensor = self._sim.sensor
        first, end = self._sent, sensor.count
        self._sent = end
        if first == end or self._faults.sensor_silent(self._sim.time) or self._faults.lost():
            return
        times = sensor.times(first, end) + self._epoch
        now = np.full(end - first, self._now())
        self._sockets.send_sensor(SensorRecords(times, now, sensor.values(first, end)))

    def _send_status(self) -> None:
        sim = self._sim
        over = sim.stages.over
        metrics = sim.stages.metrics()
        told = metrics.to_json() | {
            "episode": self._episode, "halted": sim.motion.halted, "silences": sim.motion.silences,
            "cut": sim.motion.cut,
        }  # fmt: skip
        self._sockets.send_status(RigStatus(sim.seed, self._since, over, metrics.success, told))
        if over and not self._over_told:
            self._over_told = True
            outcome = "success" if metrics.success else metrics.aborted or "time is up"
            self._log(f"seed {sim.seed}: {outcome} after {metrics.seconds:.1f} s")

    def _paint(self) -> None:
        """The render thread: all views of a shot, encoded, in turn."""
        try:
            renderer = RigRenderer(self._parameters)
        except Exception as error:
            self._failure = error
            while self._shots.get() is not None:
                pass
            return
        try:
            while (shot := self._shots.get()) is not None:
                for view, image in renderer.render(shot.layout, shot.pose).items():
                    if self._faults.lost() or self._faults.view_lost(view, shot.episode_time):
                        continue
                    jpeg = encode_view(image, self._parameters.cameras.quality)
                    self._pictures.put(CameraFrame(WIRE_CAMERAS[view], shot.at, jpeg))
        finally:
            renderer.close()

    def _now(self) -> float:
        return self._clock() + self._faults.clock_offset

    def _time_of(self, step: int) -> float:
        """A step of this episode on the rig's clock."""
        return self._epoch + step / STEPS_PER_SECOND


def encode_view(image: np.ndarray, quality: int) -> bytes:
    """The JPEG that the wire carries, encoded as demonstrations are."""
    out = io.BytesIO()
    Image.fromarray(image).save(out, "JPEG", quality=quality, subsampling=0)
    return out.getvalue()
