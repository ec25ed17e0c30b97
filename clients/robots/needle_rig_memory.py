"""What the rig has told so far: every stream in order, on our clock, with its losses, its age and what was wrong.

The receive thread and the decoder write, the control and inference threads read; one lock is around all of it.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clients.robots.needle_rig_buffers import FrameLog, SensorRing, SourceLatch, StateLog
from clients.robots.needle_rig_clock import STEP_S, ClockOffset
from clients.robots.needle_rig_contract import CAMERA_RATE_HZ
from clients.robots.rig_wire import CameraFrame, RobotState, SensorRecords

# A sender's two times of one message lie closer than this, or one of them is wrong.
LONGEST_HELD_S = 5.0
# Pictures of one instant lie closer than this; a camera's next picture comes no sooner.
HALF_FRAME_S = 0.5 / CAMERA_RATE_HZ


@dataclass(frozen=True)
class Instant:
    """What belonged together at one instant; times are local."""

    at: float
    images: dict[str, np.ndarray]
    state: RobotState
    window: np.ndarray  # float32 [T <= 65, 1026]; empty where the sensor said nothing


class RigMemory:
    """See the module."""

    def __init__(
        self,
        views: Sequence[str],
        log: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        *,
        needs_sensor: bool = True,
    ) -> None:
        self.log = log
        self._needs_sensor = needs_sensor
        self._clock = clock
        self.views = tuple(views)
        self._changed = threading.Condition()  # its lock may be taken again by the thread that has it
        self._sensor, self._states = SensorRing(), StateLog()
        self._frames = {view: FrameLog() for view in views}
        self._handed: dict[str, float] = {}  # sender's time of the newest picture given to the decoder
        self._clocks = {stream: ClockOffset() for stream in ("sensor", "state", *views)}
        self._latches = {stream: SourceLatch() for stream in ("sensor", *views)}
        self._since: float | None = None
        self.pictured_at = float("-inf")  # local time at which the newest complete set of pictures was there
        self._samples: Counter[str] = Counter()  # of stretches of the stream that are over
        self.counts: Counter[str] = Counter()

    def forget(self, since: float | None = None) -> None:
        """Start over and learn the clocks anew; what is from before `since`, on the rig's clock, is not taken in."""
        with self._changed:
            self._since = since
            for clock in self._clocks.values():
                clock.learn_anew()
            self._clear_sensor()
            self._states.clear()
            self._handed.clear()
            for frames in self._frames.values():
                frames.clear()

    def start_counting(self) -> None:
        """Count from zero, for an episode that begins."""
        with self._changed:
            self.counts.clear()
            self._samples.clear()

    def bad(self, stream: str, kind: str, detail: str) -> None:
        """Count a message that cannot be used, and tell of the first of its kind."""
        key = f"{stream}: {kind}"
        with self._changed:
            self.counts[key] += 1
            first = self.counts[key] == 1
        if first:
            self.log(f"needle rig: {stream}: {kind}: {detail}; counted from now on")

    def count(self, what: str) -> None:
        with self._changed:
            self.counts[what] += 1

    def accepts(self, stream: str, source: object, now: float) -> bool:
        """Whether a message comes from the stream's own sender; a second rig's are counted and dropped."""
        with self._changed:
            mine = self._latches[stream].accepts(source, now)
        if not mine:
            self.bad(stream, "second_sender", f"{source} sends too; one rig a port")
        return mine

    def take_frame(self, view: str, frame: CameraFrame, now: float) -> bool:
        """Judge a picture's time before it is decoded; False where it is not to be used."""
        sent = frame.send_time if frame.send_time is not None else frame.timestamp
        if not self._believed(view, sent, now, (frame.timestamp,)):
            return False
        with self._changed:
            if self._since is not None and frame.timestamp < self._since:
                return False
            last = self._handed.get(view)
            if last is None or frame.timestamp > last + HALF_FRAME_S:
                self._handed[view] = frame.timestamp
                return True
        why = "backwards" if frame.timestamp <= last else "too_soon"
        self.bad(
            view, why, f"a picture {frame.timestamp - last:+.3f} s after the one before; a second sender?"
        )
        return False

    def take_picture(self, view: str, frame: CameraFrame, picture: np.ndarray) -> None:
        """A decoded picture; one from before the last `forget` is dropped."""
        with self._changed:
            if view in self._handed and self._frames[view].add(frame.timestamp, picture):
                self.counts["pictures"] += 1
                if all(log.newest is not None for log in self._frames.values()) and self._is_whole():
                    self.pictured_at = self._clock()
                self._changed.notify_all()

    def take_state(self, state: RobotState, now: float) -> None:
        if not self._believed("state", state.send_time, now, (state.origin_time,)):
            return
        with self._changed:
            taken = self._states.add(state)
            self.counts["states"] += taken
        if not taken:
            self.bad("state", "backwards", "a robot state no newer than the one before")

    def take_samples(self, records: SensorRecords, now: float) -> None:
        times = (float(records.origin_time.min()), float(records.origin_time.max()))
        if not self._believed("sensor", float(records.send_time[-1]), now, times):
            return
        with self._changed:
            if self._since is None or times[0] >= self._since:
                self._sensor.add(records)
                self._changed.notify_all()

    def missing(self) -> list[str]:
        """What there is too little of to begin: each view, robot states, half a sensor buffer where it is needed."""
        with self._changed:
            wanted = [f"no picture of {view}" for view, log in self._frames.items() if log.newest is None]
            if self._states.newest is None:
                wanted.append("no robot state")
            have, half = len(self._sensor), self._sensor.capacity // 2
            if self._needs_sensor and have < half:
                wanted.append(f"{have} of {half} sensor samples")
            new = [stream for stream in ("state", *self.views) if not self._clocks[stream].known]
            return wanted or [f"too few messages of {stream} to know its clock" for stream in new]

    def ages(self, now: float) -> dict[str, float]:
        """Stream -> seconds since its newest message was made; infinite where there is none."""
        with self._changed:
            state = self._states.newest
            newest = {"sensor": self._sensor.newest, "state": state.origin_time if state else None}
            newest |= {view: frames.newest for view, frames in self._frames.items()}
            return {
                stream: float("inf") if time is None else now - self._clocks[stream].local(time)
                for stream, time in newest.items()
            }

    def wait(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Wait until `condition` holds after something has come; False when time is up."""
        with self._changed:
            return self._changed.wait_for(condition, timeout)

    def instant(self) -> Instant | None:
        """The newest instant of which every view has a picture, with the state and the window that go with it."""
        with self._changed:
            newest = {view: frames.newest for view, frames in self._frames.items()}
            if any(time is None for time in newest.values()):
                return None
            at = min(self._clocks[view].local(time) for view, time in newest.items() if time is not None)
            images = {}
            for view, frames in self._frames.items():
                clock = self._clocks[view]
                frame = frames.nearest(at - (clock.offset or 0.0))
                if frame is None or abs(clock.local(frame[0]) - at) > HALF_FRAME_S:
                    return None
                images[view] = frame[1]
            state = self._states.at(at - (self._clocks["state"].offset or 0.0))
            if state is None:
                return None
            window = self._sensor.window(at - (self._clocks["sensor"].offset or 0.0))
            return Instant(at, images, state, window)

    def sampled_until(self) -> float:
        """Local time of the newest sensor sample."""
        with self._changed:
            newest = self._sensor.newest
            return float("-inf") if newest is None else self._clocks["sensor"].local(newest)

    def report(self) -> dict[str, Any]:
        """Received, lost and wrong, and each clock's offset, for the run's report."""
        with self._changed:
            offsets = {name: clock.offset for name, clock in self._clocks.items()}
            return {
                "counts": dict(self.counts),
                "samples": dict(self._samples + self._tally()),
                "clock_offset_s": {k: None if v is None else round(v, 6) for k, v in offsets.items()},
                "clocks_set": {name: clock.steps for name, clock in self._clocks.items() if clock.steps},
            }

    def _believed(self, stream: str, sent: float, now: float, origins: Sequence[float]) -> bool:
        """Whether a message's times make sense; a sender whose clock was set starts its stream over."""
        clock = self._clocks[stream]
        with self._changed:
            steps = clock.steps
            plausible = all(abs(sent - origin) <= LONGEST_HELD_S for origin in origins)
            believed = plausible and clock.add(sent, now)
            if believed and clock.steps > steps:
                self._start_over(stream)
        if not believed:
            self.bad(stream, "time", f"more than {STEP_S:g} s late, or a timestamp far from all others")
        return believed

    def _is_whole(self) -> bool:
        """Whether the newest pictures of all views belong together."""
        times = [self._clocks[view].local(log.newest or 0.0) for view, log in self._frames.items()]
        return max(times) - min(times) <= HALF_FRAME_S

    def _start_over(self, stream: str) -> None:
        self._since = None  # it was on the clock that has been set
        if stream == "sensor":
            self._clear_sensor()
        elif stream == "state":
            self._states.clear()
        else:
            self._frames[stream].clear()
            self._handed.pop(stream, None)

    def _tally(self) -> Counter[str]:
        sensor = self._sensor
        return Counter(
            received=sensor.received, lost=sensor.lost, reordered=sensor.reordered, dropped=sensor.dropped
        )

    def _clear_sensor(self) -> None:
        self._samples += self._tally()
        self._sensor.clear()
