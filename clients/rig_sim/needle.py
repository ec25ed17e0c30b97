"""Where the needle really is: from the pose the arm reports, through everything the calibration gets wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from clients.rig_sim.geometry import Vec
from clients.rig_sim.layout import Layout, nominal_entry
from clients.rig_sim.parameters import RigParameters


class NeedleFrame:
    """The arm's frame and the needle's offset of one episode, in scalars: this runs at every step of the physics."""

    def __init__(self, parameters: RigParameters, layout: Layout) -> None:
        pivot, base = nominal_entry(parameters), np.array(parameters.arm.base)
        origin = pivot + layout.base_offset + layout.base_turn @ (base - pivot)
        self._origin: list[float] = origin.tolist()
        self._turn: list[list[float]] = layout.base_turn.tolist()
        self._offset: list[float] = layout.tool_offset.tolist()

    def at(self, pose: Sequence[float]) -> tuple[Vec, Vec]:
        """The tip, mm, and the unit vector along which the needle points, in the world's frame."""
        a, b, r = math.radians(pose[3]), math.radians(pose[4]), math.radians(pose[5])
        ca, sa, cb, sb, cr, sr = math.cos(a), math.sin(a), math.cos(b), math.sin(b), math.cos(r), math.sin(r)
        # The first two columns of `euler_matrix`; the needle's offset has no part along the third.
        u, v = self._offset[0], self._offset[1]
        local = (
            pose[0] + u * cb * cr - v * cb * sr,
            pose[1] + u * (ca * sr + sa * sb * cr) + v * (ca * cr - sa * sb * sr),
            pose[2] + u * (sa * sr - ca * sb * cr) + v * (sa * cr + ca * sb * sr),
        )
        x, y, z = (o + p for o, p in zip(self._origin, self._turned(local), strict=True))
        return (x, y, z), self._turned((sb, -sa * cb, ca * cb))

    def _turned(self, v: Vec) -> Vec:
        m = self._turn
        return (
            m[0][0] * v[0] + m[0][1] * v[1] + m[0][2] * v[2],
            m[1][0] * v[0] + m[1][1] * v[1] + m[1][2] * v[2],
            m[2][0] * v[0] + m[2][1] * v[1] + m[2][2] * v[2],
        )
