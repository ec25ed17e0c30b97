"""Bounded memories of the rig's streams, in order of the sender's time. No threads, no clocks."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque

import numpy as np

from clients.robots.needle_rig_contract import SENSOR_CHANNELS, SENSOR_RATE_HZ, SENSOR_WINDOW
from clients.robots.rig_wire import RobotState, SensorRecords
from clients.sensor_window import causal_window

SENSOR_CAPACITY = 1300  # 2 s
STATE_CAPACITY = 200  # 2 s
FRAMES_KEPT = 4


class SensorRing:
    """The newest samples, put back in order where datagrams overtook each other."""

    def __init__(self, capacity: int = SENSOR_CAPACITY) -> None:
        self.capacity = capacity
        # Twice the room, so that appending rarely moves anything.
        self._times = np.empty(2 * capacity)
        self._values = np.empty((2 * capacity, SENSOR_CHANNELS), np.float32)
        self.clear()

    def clear(self) -> None:
        """Forget all samples and what was counted."""
        self._begin = self._end = 0
        self._first: float | None = None
        self.received = 0
        self.reordered = 0
        self.dropped = 0  # came twice, or after the ring had moved on

    def __len__(self) -> int:
        return self._end - self._begin

    @property
    def newest(self) -> float | None:
        """The sender's time of the newest sample."""
        return float(self._times[self._end - 1]) if len(self) else None

    @property
    def lost(self) -> int:
        """Samples that should have come between the first and the newest, and did not."""
        if self._first is None or self.newest is None:
            return 0
        return max(0, round((self.newest - self._first) * SENSOR_RATE_HZ) + 1 - self.received)

    def add(self, records: SensorRecords) -> None:
        """Take a datagram in."""
        times = records.origin_time
        newest = self.newest
        ascending = bool((np.diff(times) > 0).all())
        if ascending and (newest is None or times[0] > newest):
            self._append(times, records.values)
            return
        for time, values in zip(times, records.values, strict=True):
            self._insert(float(time), values)

    def window(self, at: float) -> np.ndarray:
        """float32 [T <= 65, 1026]: what was measured in the 100 ms up to `at`, on the sender's clock."""
        rows = slice(self._begin, self._end)
        return causal_window(
            self._times[rows], self._values[rows], at, samples=SENSOR_WINDOW, rate_hz=SENSOR_RATE_HZ
        )

    def _append(self, times: np.ndarray, values: np.ndarray) -> None:
        count = len(times)
        if self._end + count > len(self._times):
            kept = self.capacity
            self._times[:kept] = self._times[self._end - kept : self._end]
            self._values[:kept] = self._values[self._end - kept : self._end]
            self._begin, self._end = 0, kept
        self._times[self._end : self._end + count] = times
        self._values[self._end : self._end + count] = values
        self._end += count
        self._begin = max(self._begin, self._end - self.capacity)
        self.received += count
        if self._first is None:
            self._first = float(times[0])

    def _insert(self, time: float, values: np.ndarray) -> None:
        place = self._begin + int(np.searchsorted(self._times[self._begin : self._end], time))
        if place == self._end:
            self._append(np.array([time]), values[None])
            return
        if place == self._begin or self._times[place] == time:
            self.dropped += 1
            return
        late_time, late_values = self._times[place : self._end].copy(), self._values[place : self._end].copy()
        self._end = place
        self._append(np.array([time]), values[None])
        self._append(late_time, late_values)
        self.received -= len(late_time)
        self.reordered += 1


class StateLog:
    """The newest robot states; one that runs backwards is refused."""

    def __init__(self) -> None:
        self._states: deque[RobotState] = deque(maxlen=STATE_CAPACITY)

    def clear(self) -> None:
        self._states.clear()

    @property
    def newest(self) -> RobotState | None:
        return self._states[-1] if self._states else None

    def add(self, state: RobotState) -> bool:
        """Take a state in; False where it is no newer than the last one."""
        if self._states and state.origin_time <= self._states[-1].origin_time:
            return False
        self._states.append(state)
        return True

    def at(self, time: float) -> RobotState | None:
        """The last state up to `time`, on the sender's clock; None where none is that old."""
        place = bisect_right(self._states, time, key=lambda state: state.origin_time)
        return self._states[place - 1] if place else None


class FrameLog:
    """The newest pictures of one camera; one that runs backwards is refused."""

    def __init__(self) -> None:
        self._frames: deque[tuple[float, np.ndarray]] = deque(maxlen=FRAMES_KEPT)

    def clear(self) -> None:
        self._frames.clear()

    @property
    def newest(self) -> float | None:
        """The sender's time of the newest picture."""
        return self._frames[-1][0] if self._frames else None

    def add(self, time: float, image: np.ndarray) -> bool:
        """Take a picture in; False where it is no newer than the last one."""
        if self._frames and time <= self._frames[-1][0]:
            return False
        self._frames.append((time, image))
        return True

    def nearest(self, time: float) -> tuple[float, np.ndarray] | None:
        """The picture taken nearest to `time`, on the sender's clock."""
        return min(self._frames, key=lambda frame: abs(frame[0] - time), default=None)


class SourceLatch:
    """Listens to the first sender of a stream only; another one takes over when that has long been silent."""

    def __init__(self, silent_after: float = 2.0) -> None:
        self._silent_after = silent_after
        self._source: object = None
        self._heard = 0.0

    def accepts(self, source: object, now: float) -> bool:
        """Whether a message of this sender is to be used."""
        if self._source is None or source == self._source or now - self._heard > self._silent_after:
            self._source, self._heard = source, now
            return True
        return False
