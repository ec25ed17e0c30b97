"""The simulated arm at the end of its reach: it stops there, the episode is an abort, and nothing raises."""

from __future__ import annotations

import numpy as np
import pytest

from clients.rig_sim.kinematics import ArmKinematics
from clients.rig_sim.lockstep import NeedleRigSim
from clients.rig_sim.parameters import load_parameters
from clients.rig_sim.sim import RigSim
from clients.robots.rig_wire import MAX_COMMAND, Command

PARAMETERS = load_parameters()


def test_a_tilt_beyond_a_joint_s_limit_is_an_abort() -> None:
    sim = NeedleRigSim(PARAMETERS)
    sim.reset(1000)
    tilt = np.array([0, 0, 0, 0, -0.05, 0])
    while not sim.done:
        sim.step(tilt)
    metrics = sim.core.stages.metrics()
    assert metrics.aborted == sim.core.motion.halted == "joint limit"
    assert not metrics.success
    assert metrics.seconds < PARAMETERS.task.time_limit
    stood = sim.core.joints()
    sim.step(tilt)
    np.testing.assert_array_equal(sim.core.joints(), stood)
    # What it stands at is a pose that it has.
    ArmKinematics(PARAMETERS.arm).solve(np.array(sim.core.motion.pose), stood)


@pytest.mark.parametrize("target", [(MAX_COMMAND,) * 6, (-MAX_COMMAND, 0, 0, 0, 0, 0)])
def test_the_farthest_target_that_can_be_told_does_no_harm(target: tuple[float, ...]) -> None:
    core = RigSim(PARAMETERS)
    core.command(Command("start"))
    for _ in range(100):
        assert core.command(Command("apose", target))
        core.tick()
        assert np.isfinite(core.joints()).all()
    assert core.motion.halted is None


def test_the_arm_starts_anew_after_it_stood_at_a_limit() -> None:
    core = RigSim(PARAMETERS)
    core.motion.pose[0] += 900.0
    core.command(Command("start"))
    for _ in range(5):
        core.tick()
    assert core.motion.halted == "joint limit"
    core.reset(0)
    assert core.command(Command("start"))
    assert core.command(Command("dpose", (0.05, 0, 0, 0, 0, 0)))
    core.tick()
    assert core.motion.halted is None
