"""MetaWorld for ten minutes without a break: does control keep its rate beside inference?

    tinyvla serve
    python clients/realtime_receiver.py --robot tests.benchmarks.endless:make --out runs/endless

The report has the achieved rate, the jitter of every tick, deadline misses and starvation. `ENDLESS_MINUTES` (10) sets
how long it takes.
"""

from __future__ import annotations

import os

from clients.robots.base import RobotRequest
from clients.robots.metaworld import MetaWorldRobot
from clients.robots.metaworld_sim import CONTROL_RATE_HZ


class EndlessMetaWorld(MetaWorldRobot):
    """Goes on after a success and after the 500 steps of a MetaWorld episode."""

    def __init__(self, request: RobotRequest, minutes: float) -> None:
        super().__init__(request.task, cameras=request.cameras)
        self._periods = round(minutes * 60 * CONTROL_RATE_HZ)
        self._sim.lift_step_limit()

    @property
    def done(self) -> bool:
        """After so many control periods."""
        return self._sim.steps >= self._periods


def make(request: RobotRequest) -> EndlessMetaWorld:
    """For `--robot tests.benchmarks.endless:make`."""
    return EndlessMetaWorld(request, float(os.environ.get("ENDLESS_MINUTES", "10")))
