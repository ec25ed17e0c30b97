"""The simulated rig's clock: 1,300 steps of physics a second, of which every other rate of the wire is a divisor."""

from __future__ import annotations

STEPS_PER_SECOND = 1300
STEP_S = 1.0 / STEPS_PER_SECOND
STEPS_PER_TICK = 13  # a tick is one robot state, 100 Hz
STEPS_PER_SAMPLE = 2  # one sample of the sensor, 650 Hz
TICKS_PER_CONTROL = 5  # one action, 20 Hz
STEPS_PER_CONTROL = TICKS_PER_CONTROL * STEPS_PER_TICK
TICKS_PER_FRAME = 20  # one picture of every camera, 5 Hz
TICK_S = STEPS_PER_TICK * STEP_S


def seconds(steps: int) -> float:
    """The time of a step; the same number for the same step, however it is reached."""
    return steps / STEPS_PER_SECOND
