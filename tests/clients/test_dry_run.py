"""A dry run computes everything and moves nothing."""

from __future__ import annotations

import numpy as np

from clients.episode import Episode
from clients.episode_settings import ReceiverSettings, episode_settings
from clients.inprocess import InProcessClient
from clients.robots.dry_run import DryRun
from clients.robots.null import NullRobot
from clients.simulated_time import SimulatedClock, run_simulated
from policy.null import NullPolicy, null_spec

SPEC = null_spec()


def test_the_robot_never_moves_and_the_plan_is_followed_all_the_same():
    clock = SimulatedClock()
    moving, still = NullRobot(periods=200, clock=clock), NullRobot(periods=200, clock=clock)
    for robot in (moving, DryRun(still)):
        clock.now = 0.0
        settings = episode_settings(robot.info, SPEC, ReceiverSettings(seed=1), 1, "s")
        episode = Episode(robot, SPEC, settings)
        run_simulated(robot, InProcessClient(NullPolicy(SPEC)), episode, clock, delay_s=lambda request: 0.1)
    assert still.executed == []
    np.testing.assert_array_equal(still.commands, np.zeros((200, 4)))
    # The same steps under the same numbers as on the robot that moves.
    assert episode.trace.executed == len(moving.executed)
    planned = [record.command for record in episode.trace.steps if record.command is not None]
    np.testing.assert_array_equal(planned, moving.executed)
