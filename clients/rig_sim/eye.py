"""The eye phantom: it breathes, and turns in its socket under the needle's load, overdamped and without inertia."""

from __future__ import annotations

import math

from clients.rig_sim.geometry import Vec, add, rotated
from clients.rig_sim.layout import Layout
from clients.rig_sim.parameters import Eye


class EyePhantom:
    """Where the globe and its trocar are. Times in s, torques in N mm."""

    def __init__(self, eye: Eye, layout: Layout) -> None:
        self._layout = layout
        self._stiffness = eye.stiffness
        # N mm s/rad; the eye alone follows a torque up to the corner frequency.
        self._damping = eye.stiffness / (2 * math.pi * eye.corner_frequency)
        self.turn: Vec = (0.0, 0.0, 0.0)  # rotation vector, radians
        self.centre: Vec = (0.0, 0.0, 0.0)
        self.entry: Vec = layout.entry
        self.axis: Vec = layout.axis
        self.advance((0.0, 0.0, 0.0), 0.0, 0.0)

    def advance(self, torque: Vec, dt: float, time: float) -> None:
        """Turn under `torque` for `dt`, and be where breathing has the globe at `time`."""
        gain = dt / self._damping
        self.turn = add(self.turn, add(torque, self.turn, -self._stiffness), gain)
        layout = self._layout
        phase = 2 * math.pi * layout.breathing_rate * time + layout.breathing_phase
        self.centre = (0.0, 0.0, layout.breathing * math.sin(phase))
        self.entry = add(self.centre, rotated(layout.entry, self.turn))
        self.axis = rotated(layout.axis, self.turn)
