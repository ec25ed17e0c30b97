"""The simulated rig's core: arm, eye and needle in steps of 1/1300 s. No clocks, no sockets, no pictures.

`clients.rig_sim.live` ticks it by the wall clock behind the rig's wire, `clients.rig_sim.lockstep` as fast as it can.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clients.rig_sim.contact import NeedleContact, Reaction
from clients.rig_sim.eye import EyePhantom
from clients.rig_sim.geometry import Vec, angle_between, norm
from clients.rig_sim.kinematics import ArmKinematics
from clients.rig_sim.layout import Layout, draw_layout
from clients.rig_sim.motion import ArmMotion
from clients.rig_sim.needle import NeedleFrame
from clients.rig_sim.parameters import RigParameters
from clients.rig_sim.sensing import NeedleSensor, retina_distance
from clients.rig_sim.stages import Situation, StageTracker
from clients.rig_sim.timing import STEP_S, STEPS_PER_CONTROL, STEPS_PER_SAMPLE, STEPS_PER_TICK, seconds
from clients.robots.rig_wire import Command
from policy.errors import UsageError

# Before an episode counts, the rig stands still for as long as a sensor window, so that the first one is full.
SETTLE_TICKS = 11
_NOISE_TABLE = 1024


@dataclass(frozen=True)
class ScenePose:
    """What a picture depends on, beside the layout."""

    joints: np.ndarray  # float64 [6], degrees
    eye_centre: Vec  # mm
    eye_turn: Vec  # rotation vector, radians


class RigSim:
    """One scene at a time. `reset` first."""

    def __init__(self, parameters: RigParameters) -> None:
        self.parameters = parameters
        self._kinematics = ArmKinematics(parameters.arm)
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Lay the scene of `seed` out and let it settle; time starts at zero when that is done."""
        p = self.parameters
        self.seed = seed
        self.layout: Layout = draw_layout(p, seed)
        self.motion = ArmMotion(p.limits, p.arm.servo_time, self.layout.start)
        self.eye = EyePhantom(p.eye, self.layout)
        self.contact = NeedleContact(p, self.layout)
        self.sensor = NeedleSensor(p, self.layout, seed)
        self.stages = StageTracker(p.task, p.limits)
        self._needle = NeedleFrame(p, self.layout)
        self._joints = self._kinematics.solve(self.layout.start)
        self._joints_of = self.layout.start
        table = np.random.default_rng([seed, 0x905E]).standard_normal((_NOISE_TABLE, 6))
        self._pose_noise = table * ([p.arm.repeatability] * 3 + [p.arm.angle_noise] * 3)
        self.step = 0
        self._zero = 0
        self._physics()
        for _ in range(SETTLE_TICKS):
            self.tick()
        self._zero = self.step
        self.stages = StageTracker(p.task, p.limits)

    def command(self, command: Command) -> bool:
        """Take a command of the wire; False when it is ignored."""
        return self.motion.command(command, seconds(self.step))

    def tick(self) -> None:
        """Advance by 10 ms."""
        for _ in range(STEPS_PER_TICK):
            self.step += 1
            self.motion.advance(STEP_S, seconds(self.step))
            self._physics()
        if (self.step - self._zero) % STEPS_PER_CONTROL == 0 and not self._within_reach():
            self.motion.put(self._joints_of)
            self.stages.abort("joint limit")
        why = self.stages.watch(self.situation(), self.contact.docking)
        if why is not None:
            self.motion.halt(why)

    @property
    def time(self) -> float:
        """Seconds of the episode."""
        return seconds(self.step - self._zero)

    @property
    def settled_at(self) -> float:
        """Seconds from the scene's layout to the episode's start: what the sensor's times count from less ours."""
        return seconds(self._zero)

    def situation(self) -> Situation:
        """The truth, for experts and for measuring."""
        reaction = self.reaction
        return Situation(
            time=self.time,
            depth=reaction.depth,
            lateral=reaction.lateral,
            angle=angle_between(self.direction, self.eye.axis),
            inside=self.contact.where == "inside",
            retina_distance=retina_distance(self.layout, reaction, self.direction, self.eye),
            axial_force=reaction.axial_force,
            lateral_force=reaction.lateral_force,
        )

    def reported_pose(self) -> np.ndarray:
        """float64 [6]: the pose the arm reports now, with the noise of its encoders."""
        pose = np.array(self.motion.pose) + self._pose_noise[self.step // STEPS_PER_TICK % _NOISE_TABLE]
        pose[3:] = (pose[3:] + 180.0) % 360.0 - 180.0
        return pose

    def joints(self) -> np.ndarray:
        """float64 [6]: joint angles, degrees; of the last pose within the arm's reach."""
        self._within_reach()
        return self._joints

    @property
    def wrist_force(self) -> float:
        """N, all of the load on the needle."""
        return norm((self.reaction.axial_force, self.reaction.lateral_force, 0.0))

    def scene_pose(self) -> ScenePose:
        return ScenePose(self.joints(), self.eye.centre, self.eye.turn)

    def _within_reach(self) -> bool:
        """Whether the arm can be where it is said to be; then its joints are known."""
        pose = np.array(self.motion.pose)
        if not np.array_equal(pose, self._joints_of):
            try:
                self._joints = self._kinematics.solve(pose, self._joints)
            except UsageError:
                return False
            self._joints_of = pose
        return True

    def _physics(self) -> None:
        """Contact, the eye's answer, and a sample where one is due."""
        self.tip, self.direction = self._needle.at(self.motion.pose)
        self.reaction: Reaction = self.contact.react(self.tip, self.direction, self.eye, STEP_S)
        self.eye.advance(self.reaction.torque, STEP_S, seconds(self.step))
        if self.step % STEPS_PER_SAMPLE == 0:
            self.sensor.measure(self.tip, self.direction, self.eye, self.contact, self.reaction)
