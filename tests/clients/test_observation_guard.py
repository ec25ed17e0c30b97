"""What may not be asked about: bad, old, frozen or missing parts; noted at once, serious once it lasts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from clients.observation_guard import ObservationGuard
from clients.robots.base import RobotObservation
from clients.safety_limits import SafetyLimits
from policy.null import null_spec
from policy.spec import SensorSpec

SENSOR = SensorSpec(name="oct", channels=2, window=4, rate_hz=100.0, units="1")
SPEC = null_spec(cameras=("left", "right"), sensors=(SENSOR,))
LIMITS = replace(
    SafetyLimits.of(SPEC.action), stale_camera_s=0.5, stale_state_s=0.3, stale_sensor_s=0.4, stale_plan_s=1.0
)


def seen(at: float, **changed: object) -> RobotObservation:
    """An observation of which every part is good: two moving pictures, a state, a sensor."""
    picture = np.full((8, 8, 3), int(at * 100) % 256, np.uint8)
    good = RobotObservation(
        images={"left": picture, "right": picture},
        state=np.zeros(4, np.float32),
        control_step=0,
        captured_at=at,
        sensors={"oct": np.zeros((4, 2), np.float32)},
    )
    return replace(good, **changed)


def guard() -> ObservationGuard:
    return ObservationGuard(SPEC, LIMITS, ("oct",), started=0.0)


def test_a_sensor_that_may_be_silent_is_looked_at_only_while_it_speaks():
    looking = ObservationGuard(SPEC, LIMITS, ("oct",), started=0.0, may_be_silent=("oct",))
    assert looking.look(seen(0.1, sensors={}), 0.1)
    assert looking.look(seen(5.0, sensors={"oct": np.zeros((0, 2), np.float32)}), 5.0)
    assert not looking.look(seen(5.1, sensors={"oct": np.full((4, 2), np.nan, np.float32)}), 5.1)


def test_a_good_observation_passes():
    looking = guard()
    assert looking.look(seen(0.1), 0.1)
    assert looking.faults == {}


NAN = np.array([0, np.nan, 0, 0], np.float32)
PICTURE = np.zeros((8, 8, 3), np.uint8)


@pytest.mark.parametrize(
    ("changed", "cause", "limit", "told"),
    [
        ({"state": NAN}, "bad_state", 0.3, "s1"),
        ({"images": {"left": PICTURE}}, "stale_camera", 0.5, "right"),
        ({"sensors": {}}, "stale_sensor", 0.4, "oct"),
        ({"sensors": {"oct": np.zeros((0, 2), np.float32)}}, "stale_sensor", 0.4, "oct"),
        ({"sensors": {"oct": np.full((4, 2), np.inf, np.float32)}}, "bad_sensor", 0.4, "oct"),
    ],
)
def test_a_bad_part_is_noted_at_once_serious_once_it_lasts_and_over_when_it_is_good(
    changed, cause, limit, told
):
    looking = guard()
    assert looking.look(seen(1.0), 1.0)
    assert not looking.look(seen(0.99 + limit, **changed), 0.99 + limit)
    assert (list(looking.faults), looking.faults[cause].serious) == ([cause], False)
    assert not looking.look(seen(1.01 + limit, **changed), 1.01 + limit)
    assert looking.faults[cause].serious
    assert told in looking.faults[cause].why
    assert looking.look(seen(1.1 + limit), 1.1 + limit)
    assert looking.faults == {}


@pytest.mark.parametrize(
    ("part", "cause", "limit"),
    [("right", "stale_camera", 0.5), ("state", "stale_state", 0.3), ("oct", "stale_sensor", 0.4)],
)
def test_a_part_older_than_its_limit_is_named(part, cause, limit):
    looking = guard()
    assert looking.look(seen(5.0, measured_at={part: 5.0 - limit + 0.01}), 5.0)
    assert not looking.look(seen(5.0, measured_at={part: 5.0 - limit - 0.01}), 5.0)
    assert (list(looking.faults), looking.faults[cause].serious) == ([cause], True)


def test_a_robot_that_delivers_nothing_is_named():
    looking = guard()
    assert not looking.look(None, 0.9)
    assert not looking.faults["stale_observation"].serious
    assert not looking.look(None, 1.1)
    assert looking.faults["stale_observation"].serious


def test_an_observation_older_than_one_before_is_not_used():
    looking = guard()
    assert looking.look(seen(2.0), 2.0)
    assert not looking.look(seen(1.9), 2.1)
    assert list(looking.faults) == ["stale_observation"]
    assert looking.look(seen(2.0), 2.2)


def test_an_observation_of_another_clock_is_not_used_since_it_would_never_be_old():
    """A driver that stamps with time.time(): frozen for minutes, its pictures would still be from the future."""
    looking = guard()
    wall = 1.7e9
    assert not looking.look(seen(wall), 0.5)
    assert not looking.faults["stale_observation"].serious
    assert not looking.look(seen(wall + 1), 1.5)
    assert looking.faults["stale_observation"].serious
    assert "time.monotonic()" in looking.faults["stale_observation"].why
    assert looking.look(seen(2.0), 2.0)  # and it spoils nothing for those that come later
    assert not looking.look(seen(2.1, measured_at={"left": wall}), 2.1)
    assert list(looking.faults) == ["stale_camera"]
    assert looking.look(seen(2.2), 2.15)  # a little ahead is the reading of the clocks


def test_a_frame_that_stays_the_same_while_the_robot_moves_is_frozen():
    looking = guard()
    frozen = {"left": np.full((8, 8, 3), 7, np.uint8)}

    def look(at: float, moved: float) -> bool:
        picture = seen(at).images["right"]
        state = np.array([moved, 0, 0, 0], np.float32)
        return looking.look(seen(at, images={**frozen, "right": picture}, state=state), at)

    assert look(1.0, 0.0)
    assert look(1.4, 0.5)  # not for long enough
    assert not look(1.6, 0.5)
    assert looking.faults["stale_camera"].serious
    assert "left" in looking.faults["stale_camera"].why
    frozen["left"] = frozen["left"] + 1
    assert look(1.7, 0.5)
    assert looking.faults == {}


def test_a_frame_of_a_robot_that_stands_still_may_stay_the_same():
    looking = guard()
    images = {"left": PICTURE, "right": PICTURE}
    for at in (1.0, 2.0, 30.0):
        assert looking.look(seen(at, images=images), at)


def test_a_buffer_that_the_robot_fills_again_and_again_is_not_frozen():
    looking = guard()
    buffer = np.zeros((8, 8, 3), np.uint8)
    for number in range(20):
        buffer[:] = number
        state = np.full(4, number / 10, np.float32)
        at = 1 + number / 5
        assert looking.look(seen(at, images={"left": buffer, "right": buffer}, state=state), at)


def test_a_sensor_that_the_robot_does_not_have_is_not_missed():
    looking = ObservationGuard(SPEC, LIMITS, (), started=0.0)
    assert looking.look(seen(9.0, sensors={}), 9.0)
