"""What the needle meets at the eye: the cap, the trocar's wall, its valve, the retina; and the forces of each.

The valve is pierced piecewise (Okamura, Simone, O'Leary 2004): an elastic stage up to rupture, then friction. The
wall pushes the needle back where the shaft leaves its clearance, near the cap and at the cannula's inner end, and is
pushed itself: that is what turns the eye.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from clients.rig_sim.eye import EyePhantom
from clients.rig_sim.geometry import Vec, add, angle_between, cross, dot, norm
from clients.rig_sim.layout import Layout
from clients.rig_sim.parameters import RigParameters

Where = Literal["outside", "inside", "cap", "side", "sclera"]
# A tip this far below the cap's top that comes upon it has met its side, mm.
_EDGE = 0.05
# Below this speed Coulomb friction fades to nothing, mm/s.
_STICTION_SPEED = 0.02
_NO_TORQUE: Vec = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Reaction:
    """One moment's contact."""

    depth: float  # mm of the tip below the entry along the trocar's axis; negative above
    lateral: float  # mm of the tip from the axis
    axial_force: float  # N, positive where it resists insertion
    lateral_force: float  # N, the larger of the wall's two contacts
    torque: Vec  # N mm, on the eye


@dataclass(frozen=True)
class Docking:
    """How the tip entered the funnel."""

    lateral: float  # mm from the axis
    angle: float  # degrees between needle and axis


class NeedleContact:
    """The needle's contact with one eye; remembers where the tip is and whether the valve is pierced."""

    def __init__(self, parameters: RigParameters, layout: Layout) -> None:
        self._trocar, self._valve = parameters.trocar, parameters.valve
        self._retina_stiffness = parameters.retina.stiffness
        self._eye_radius = parameters.eye.radius
        self._layout = layout
        self._clearance = layout.inner_radius - parameters.needle.diameter / 2
        self._last_depth: float | None = None
        self.where: Where = "outside"
        self.pierced = False
        self.docking: Docking | None = None  # the last entry

    def react(self, tip: Vec, direction: Vec, eye: EyePhantom, dt: float) -> Reaction:
        """The contact of a needle whose tip is at `tip` and which points along the unit vector `direction`."""
        relative = add(tip, eye.entry, -1.0)
        depth = dot(relative, eye.axis)
        off_axis = add(relative, eye.axis, -depth)
        lateral = norm(off_axis)
        surface = self._surface(lateral)
        self._move(depth, lateral, surface, direction, eye.axis)
        speed = 0.0 if self._last_depth is None or dt <= 0 else (depth - self._last_depth) / dt
        self._last_depth = depth
        if self.where == "outside":
            return Reaction(depth, lateral, 0.0, 0.0, _NO_TORQUE)
        arm = add(eye.entry, eye.centre, -1.0)
        if self.where == "side":
            push = self._trocar.wall_stiffness * (self._trocar.cap_radius - lateral)
            away = _times(off_axis, -push / lateral)
            return Reaction(depth, lateral, 0.0, push, cross(arm, away))
        if self.where != "inside":
            force = self._trocar.cap_stiffness * max(0.0, depth - surface)
            return Reaction(depth, lateral, force, 0.0, cross(arm, _times(eye.axis, force)))
        force = self._axial(depth, speed)
        torque = cross(arm, _times(eye.axis, force))
        largest = 0.0
        slope = dot(direction, eye.axis)
        for at in self._wall_contacts(depth):
            # The shaft's offset from the axis at this depth.
            shaft = add(relative, direction, (at - depth) / slope)
            offset = add(shaft, eye.axis, -dot(shaft, eye.axis))
            distance = norm(offset)
            excess = distance - self._allowed(depth)
            if excess > 0 and distance > 0:
                push = self._trocar.wall_stiffness * excess
                largest = max(largest, push)
                torque = add(torque, cross(add(arm, eye.axis, at), _times(offset, push / distance)))
        return Reaction(depth, lateral, force, largest, torque)

    def _surface(self, lateral: float) -> float:
        """Depth of what a tip at this distance from the axis lands on: the cap, beyond it the globe."""
        if lateral <= self._trocar.cap_radius:
            return 0.0
        return self._trocar.cap_height + lateral * lateral / (2 * self._eye_radius)

    def _move(self, depth: float, lateral: float, surface: float, direction: Vec, axis: Vec) -> None:
        if self.where == "inside":
            if depth < 0:
                self.where = "outside"
            return
        below = self._last_depth is not None and self._last_depth > _EDGE
        if depth < surface:
            self.where = "outside"
        elif lateral <= self._trocar.cap_radius and self.where in ("outside", "side") and below:
            self.where = "side"
        elif lateral <= self._layout.capture:  # also a tip that slides over the cap into the funnel
            self.where = "inside"
            self.docking = Docking(lateral, angle_between(direction, axis))
        else:
            self.where = "cap" if lateral <= self._trocar.cap_radius else "sclera"

    def _axial(self, depth: float, speed: float) -> float:
        layout = self._layout
        force = 0.0
        into_valve = depth - self._valve.depth
        if into_valve > 0 and not self.pierced:
            force = layout.valve_stiffness * into_valve
            self.pierced = force >= layout.valve_rupture
        elif into_valve > 0:
            force = layout.valve_friction * math.tanh(speed / _STICTION_SPEED) + self._valve.viscous * speed
        return force + self._retina_stiffness * max(0.0, depth - layout.retina_depth)

    def _wall_contacts(self, depth: float) -> tuple[float, ...]:
        """Depths at which the wall may touch: the tip while it is in the cannula, else both of its ends."""
        outer, inner = self._valve.depth, self._trocar.cannula_length
        if depth <= outer:
            return (depth,)
        return (outer, min(depth, inner))

    def _allowed(self, depth: float) -> float:
        """How far off the axis the shaft may be: the funnel narrows to the cannula's clearance at the valve."""
        share = min(1.0, depth / self._valve.depth)
        return self._layout.capture + (self._clearance - self._layout.capture) * share


def _times(v: Vec, scale: float) -> Vec:
    return (v[0] * scale, v[1] * scale, v[2] * scale)
