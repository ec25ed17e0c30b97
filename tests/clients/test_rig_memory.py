"""What the rig told, aligned on our clock: complete instants only, and nothing absurd ever gets in."""

from __future__ import annotations

import numpy as np
import pytest

from clients.robots.needle_rig_contract import SENSOR_CHANNELS, SENSOR_WINDOW
from clients.robots.needle_rig_memory import RigMemory
from clients.robots.rig_wire import CameraFrame, RobotState, SensorRecords

VIEWS = ("view1", "view2")
AHEAD = 3.0  # the rig's clock against ours
PICTURE = np.zeros((2, 2, 3), np.uint8)


class Told(RigMemory):
    """A memory that is told things at times of its own clock."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        super().__init__(VIEWS, self.lines.append)

    def picture(self, view: str, at: float, *, rig: float | None = None, latency: float = 0.005) -> bool:
        timestamp = at + AHEAD if rig is None else rig
        frame = CameraFrame(view, timestamp, b"", timestamp + 0.02)
        taken = self.take_frame(view, frame, at + 0.02 + latency)
        if taken:
            self.take_picture(view, frame, PICTURE + round(at * 5) % 250)
        return taken

    def state(self, at: float) -> None:
        self.take_state(RobotState(at + AHEAD, at + AHEAD, 0.0, (0,) * 6, (at,) * 6), at + 0.001)

    def samples(self, first: int, count: int = 13) -> None:
        times = np.arange(first, first + count) / 650
        values = np.zeros((count, SENSOR_CHANNELS), np.float32)
        values[:, 0] = times
        now = float(times[-1])
        self.take_samples(SensorRecords(times + AHEAD, np.full(count, now + AHEAD), values), now + 0.001)

    def run(self, until: float, views: tuple[str, ...] = VIEWS, sensor: bool = True) -> None:
        """Everything a rig says from 0 to `until`, in order."""
        events: list[tuple[float, object]] = []
        events += [
            (k / 5 + 0.03, lambda k=k, v=v: self.picture(v, k / 5))
            for k in range(round(until * 5) + 1)
            for v in views
        ]
        events += [(k / 100, lambda k=k: self.state(k / 100)) for k in range(round(until * 100) + 4)]
        if sensor:
            events += [
                ((k + 13) / 650, lambda k=k: self.samples(k))
                for k in range(-130, round(until * 650) + 20, 13)
            ]
        for _, say in sorted(events, key=lambda event: event[0]):
            say()  # type: ignore[operator]


@pytest.fixture
def memory() -> Told:
    told = Told()
    told.run(2.0)
    return told


def test_an_instant_is_of_one_time_on_our_clock(memory: Told) -> None:
    instant = memory.instant()
    assert instant is not None
    assert instant.at == pytest.approx(2.0, abs=0.006)
    assert instant.state.pose[0] == pytest.approx(2.0, abs=0.011)
    assert len(instant.window) == SENSOR_WINDOW
    assert float(instant.window[-1, 0]) == pytest.approx(2.0, abs=0.006)
    assert {image[0, 0, 0] for image in instant.images.values()} == {10}


def test_an_instant_needs_every_view_at_about_the_same_time(memory: Told) -> None:
    assert not memory.missing()
    memory.picture("view1", 2.2)
    instant = memory.instant()
    assert instant is not None
    assert instant.at == pytest.approx(2.0, abs=0.006)  # view2 has not seen 2.2 yet
    for k in range(2, 8):
        memory.picture("view1", 2.0 + k / 5)
    assert memory.instant() is None  # view2 has fallen too far behind


def test_nothing_is_ready_before_every_view_and_half_a_buffer(memory: Told) -> None:
    told = Told()
    assert len(told.missing()) == 4
    told.run(0.5)
    assert told.missing() == [f"{sum(1 for _ in range(-130, 345, 13)) * 13} of 650 sensor samples"]
    for k in range(345, 800, 13):
        told.samples(k)
    assert told.missing() == [f"too few messages of {view} to know its clock" for view in VIEWS]
    told.run(2.0, views=("view1",))
    assert Told().instant() is None
    assert not memory.missing()


def test_forgetting_leaves_nothing_of_before(memory: Told) -> None:
    memory.forget(since=2.1 + AHEAD)
    assert memory.instant() is None
    assert not memory.picture("view1", 2.0)
    assert memory.picture("view1", 2.2)
    memory.samples(1310)
    assert memory.missing()[0] == "no picture of view2"
    assert memory.report()["samples"]["received"] >= 1300  # counted all the same


def test_pictures_that_run_backwards_or_come_too_soon_are_counted(memory: Told) -> None:
    assert not memory.picture("view1", 1.8)
    assert not memory.picture("view1", 2.05)
    assert memory.counts["view1: backwards"] == 1
    assert memory.counts["view1: too_soon"] == 1
    assert memory.picture("view1", 2.2)


def test_a_timestamp_from_another_world_changes_nothing(memory: Told) -> None:
    before = memory.ages(2.1)
    assert not memory.picture("view1", 2.2, rig=1e15)
    assert not memory.picture("view1", 2.2, rig=-1e15)
    memory.take_state(RobotState(1e15, 2.2 + AHEAD, 0.0, (0,) * 6, (0,) * 6), 2.2)
    memory.take_samples(
        SensorRecords(np.array([1e15]), np.array([2.2 + AHEAD]), np.zeros((1, SENSOR_CHANNELS), np.float32)),
        2.2,
    )
    assert memory.ages(2.1) == before
    assert memory.counts["view1: time"] == 2
    assert memory.counts["state: time"] == memory.counts["sensor: time"] == 1


def test_each_kind_of_fault_is_told_once_and_counted_always(memory: Told) -> None:
    for _ in range(50):
        memory.bad("sensor", "truncated", "a datagram of 3 bytes")
    assert memory.counts["sensor: truncated"] == 50
    assert len([line for line in memory.lines if "truncated" in line]) == 1


def say(memory: Told, ahead: float, first: int = 1, until: int = 12) -> float:
    """Pictures of view1, every 0.2 s after 2 s, of a rig `ahead` of us; the local time after the last."""
    for k in range(first, until):
        memory.picture("view1", 2.0 + k / 5, rig=2.0 + k / 5 + ahead)
    return 2.0 + (until - 1) / 5 + 0.1


def test_a_rig_whose_clock_is_set_forward_goes_on_after_a_few_messages(memory: Told) -> None:
    now = say(memory, AHEAD + 100.0)
    assert memory.ages(now)["view1"] == pytest.approx(0.1, abs=0.02)
    assert memory.report()["clocks_set"] == {"view1": 1}


def test_a_rig_whose_clock_is_set_back_is_not_believed_before_the_next_start(memory: Told) -> None:
    now = say(memory, AHEAD - 100.0)
    assert memory.ages(now)["view1"] == pytest.approx(now - 2.0, abs=0.02)
    assert memory.report()["clocks_set"] == {}
    memory.forget()
    now = say(memory, AHEAD - 100.0, 12, 14)
    assert memory.ages(now)["view1"] == pytest.approx(0.1, abs=0.02)


def test_what_arrives_late_and_stays_late_is_as_old_as_it_is(memory: Told) -> None:
    late = 3.0
    for k in range(1, 500):
        made = 2.04 + k / 100
        state = RobotState(made + AHEAD, made + AHEAD, 0.0, (0,) * 6, (0,) * 6)
        memory.take_state(state, made + late)
        if k % 20 == 0:
            memory.picture("view1", made, latency=late)
        ages = memory.ages(made + late)
        assert ages["state"] >= late
        assert ages["view1"] >= late
    assert memory.counts["state: time"] == 499


def test_a_second_sender_is_told_apart_and_dropped(memory: Told) -> None:
    assert memory.accepts("sensor", ("10.0.0.1", 5), 0.0)
    assert not memory.accepts("sensor", ("10.0.0.2", 5), 0.1)
    assert memory.counts["sensor: second_sender"] == 1


def test_a_silent_sensor_leaves_an_empty_window_and_a_growing_age() -> None:
    told = Told()
    told.run(2.0, sensor=False)
    instant = told.instant()
    assert instant is not None
    assert len(instant.window) == 0
    assert told.ages(2.0)["sensor"] == float("inf")


def test_lost_samples_are_counted() -> None:
    told = Told()
    for k in (0, 1, 2, 5, 6):
        told.samples(13 * k)
    assert told.report()["samples"]["lost"] == 26
