"""A dry run computes everything and moves nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from clients.episode import Episode
from clients.episode_settings import ReceiverSettings, episode_settings
from clients.inprocess import InProcessClient
from clients.robots.dry_run import DryRun
from clients.robots.null import NullRobot
from clients.simulated_time import SimulatedClock, run_simulated
from clients.tapped_robot import TappedRobot
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


class Arm(NullRobot):
    """Its targets are absolute, and where it stands is known once it was reset."""

    def __init__(self, **fields: object) -> None:
        super().__init__(**fields)
        self.info = replace(self.info, action_kind="absolute")

    def reset(self, seed: int) -> None:
        super().reset(seed)
        self.info = replace(self.info, resting_command=np.full(4, 1.5, np.float32))


@pytest.mark.parametrize("dry", [False, True])
def test_an_arm_of_absolute_targets_is_held_where_it_stands_until_the_first_chunk_comes(dry):
    clock = SimulatedClock()
    arm = Arm(periods=40, clock=clock)
    tapped = TappedRobot(arm, [])
    robot = DryRun(tapped) if dry else tapped
    robot.reset(1)
    absolute = SPEC.model_copy(update={"action": SPEC.action.model_copy(update={"kind": "absolute"})})
    settings = episode_settings(robot.info, absolute, ReceiverSettings(seed=1), 1, "s")
    episode = Episode(robot, absolute, settings)
    client = InProcessClient(NullPolicy(absolute))
    run_simulated(robot, client, episode, clock, delay_s=lambda request: 0.2)
    np.testing.assert_array_equal(arm.commands[:16], np.full((16, 4), 1.5))
    assert bool(arm.executed) is not dry
    if dry:
        np.testing.assert_array_equal(arm.commands, np.full((40, 4), 1.5))
