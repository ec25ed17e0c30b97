"""The arm's chain: joint angles to the needle's nominal tip, and back."""

from __future__ import annotations

import math

import numpy as np

from clients.rig_sim.geometry import euler_matrix
from clients.rig_sim.parameters import Arm
from policy.errors import UsageError

# The posture above the eye: Newton's method finds its neighbours from it, every time the same.
_POSTURE = (-24.0, 31.0, 14.0, 35.0, 65.0, 0.0)
_TOLERANCE = 1e-7  # mm and radians


class ArmKinematics:
    """Forward and inverse kinematics of a chain with a spherical wrist; mm and degrees outside, radians within."""

    def __init__(self, arm: Arm) -> None:
        # (offset of theta, d, a, alpha), standard Denavit-Hartenberg.
        quarter = math.pi / 2
        self.links = (
            (0.0, arm.d1, 0.0, -quarter),
            (-quarter, 0.0, arm.a2, 0.0),
            (0.0, 0.0, arm.a3, -quarter),
            (0.0, arm.d4, 0.0, quarter),
            (0.0, 0.0, 0.0, -quarter),
            (math.pi, arm.d6 + arm.tool_length, 0.0, 0.0),
        )
        self._low, self._high = np.radians(arm.joint_low), np.radians(arm.joint_high)

    def frames(self, joints: np.ndarray) -> list[np.ndarray]:
        """The seven frames [4, 4] of joint angles in degrees: base, after each joint; the last is the needle's tip."""
        frame = np.eye(4)
        frames = [frame]
        for (offset, d, a, alpha), joint in zip(self.links, joints, strict=True):
            theta = offset + math.radians(joint)
            c, s, ca, sa = math.cos(theta), math.sin(theta), math.cos(alpha), math.sin(alpha)
            frame = frame @ np.array(
                [[c, -s * ca, s * sa, a * c], [s, c * ca, -c * sa, a * s], [0, sa, ca, d], [0, 0, 0, 1]]
            )
            frames.append(frame)
        return frames

    def solve(self, pose: np.ndarray, near: np.ndarray | None = None) -> np.ndarray:
        """Joint angles in degrees that bring the tip to `pose` (x y z a b r), starting from `near`.

        Raises:
            UsageError: the pose is out of reach or beyond a joint's limit.
        """
        wanted = euler_matrix(*pose[3:])
        joints = np.radians(_POSTURE if near is None else near)
        for _ in range(100):
            frames = self.frames(np.degrees(joints))
            tip = frames[-1]
            error = np.concatenate([pose[:3] - tip[:3, 3], _turn_between(tip[:3, :3], wanted)])
            if np.abs(error).max() < _TOLERANCE:
                break
            step = np.linalg.lstsq(self._jacobian(frames), error, rcond=1e-6)[0]
            # Far from the solution a full step overshoots.
            joints = joints + step * min(1.0, 0.3 / np.abs(step).max())
        else:
            raise UsageError(f"the arm does not reach the pose {np.round(pose, 2).tolist()}")
        joints = (joints + math.pi) % (2 * math.pi) - math.pi
        if (joints < self._low).any() or (joints > self._high).any():
            raise UsageError(f"the pose {np.round(pose, 2).tolist()} lies beyond a joint's limit")
        return np.degrees(joints)

    @staticmethod
    def _jacobian(frames: list[np.ndarray]) -> np.ndarray:
        """float64 [6, 6]: velocity and angular velocity of the tip per joint velocity."""
        tip = frames[-1][:3, 3]
        columns = [
            np.concatenate([np.cross(frame[:3, 2], tip - frame[:3, 3]), frame[:3, 2]])
            for frame in frames[:-1]
        ]
        return np.stack(columns, 1)


def _turn_between(current: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Rotation vector that takes one orientation to the other, in the base frame."""
    m = wanted @ current.T
    axis = np.array([m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]]) / 2
    sine, cosine = float(np.linalg.norm(axis)), float((np.trace(m) - 1) / 2)
    if sine < 1e-9:
        # Half a turn has no direction here; any will do, the next step has one.
        return axis if cosine > 0 else np.array([math.pi, 0.0, 0.0])
    return axis / sine * math.atan2(sine, cosine)
