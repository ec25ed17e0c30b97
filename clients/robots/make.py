"""From a robot's name to the robot; each driver is imported only when it is asked for."""

from __future__ import annotations

from typing import Literal

from clients.robots.base import Robot
from policy.spec import PolicySpec

RobotName = Literal["metaworld", "null"]


def make_robot(name: RobotName, task: str, spec: PolicySpec, *, keep_replay: bool = False) -> Robot:
    """A robot with the cameras that the policy looks at.

    Raises:
        UsageError: the task or a camera is unknown to the robot, or what it needs is not installed.
    """
    cameras = [camera.name for camera in spec.cameras]
    if name == "null":
        from clients.robots.null import NullRobot

        return NullRobot(cameras=cameras, action_dim=spec.action.dim, control_rate_hz=spec.action.rate_hz)
    from clients.robots.metaworld import MetaWorldRobot

    # MetaWorld renders squares; the server letterboxes or stretches them to what the spec says.
    size = max((max(camera.height, camera.width) for camera in spec.cameras), default=128)
    return MetaWorldRobot(task, cameras=cameras, size=size, keep_replay=keep_replay)
