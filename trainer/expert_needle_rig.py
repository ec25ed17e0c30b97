"""The needle rig's scripted expert: align above the trocar, dock along its axis, insert and stop above the retina.

It sees the truth of the simulator and is a function of the present alone, so that what it does can be learned from
what a policy sees now. Demonstrations execute its action with a push added and store it without.
"""

from __future__ import annotations

import math

import numpy as np

from clients.rig_sim.geometry import add, angles_of_direction, dot
from clients.rig_sim.sim import RigSim
from clients.robots.needle_rig_contract import ACTION_LIMIT, CONTROL_RATE_HZ, wrap_degrees

# Height above the cap at which it waits until the needle is aligned, mm.
_STANDOFF = 1.2
# Lateral error (mm) and angle (degrees) below which it goes in at full speed, and above which not at all.
_LATERAL = (0.06, 0.18)
_ANGLE = (0.4, 1.0)
# Along the axis: full speed in free space, slower through the valve and near the retina.
_FREE_SPEED, _VALVE_SPEED = 0.9, 0.5  # mm/s
_APPROACH_GAIN = 1.5  # 1/s: speed per mm left
_SIDE_GAIN = 2.0  # 1/s
_TURN_GAIN = 1.5  # 1/s


def expert_action(sim: RigSim) -> np.ndarray:
    """float32 [6]: the pose's change for the next 1/20 s, within the rig's limits."""
    truth = sim.situation()
    axis, entry = sim.eye.axis, sim.eye.entry
    relative = add(sim.tip, entry, -1.0)
    side = add(relative, axis, -truth.depth)
    if truth.depth > 0 and truth.inside:
        # In the trocar the shaft, not the tip, has to run through the entry's middle.
        side = _shaft_offset(sim, truth.depth)
    ready = 1.0 - max(_ramp(truth.lateral, *_LATERAL), _ramp(truth.angle, *_ANGLE))
    if truth.inside:
        ready = 1.0
    forward = ready * _forward_speed(sim, truth.depth, truth.retina_distance)
    if not truth.inside:
        forward += (1 - ready) * _clip(_SIDE_GAIN * (-_STANDOFF - truth.depth), 1.0)
    velocity = np.array(axis) * forward - np.array(side) * _SIDE_GAIN
    speed = float(np.linalg.norm(velocity))
    velocity *= min(1.0, 1.0 / speed) if speed else 1.0

    a, b = angles_of_direction(tuple(sim.layout.to_base(axis)))
    wanted = np.array([a, b, sim.parameters.arm.home_roll])
    turn = wrap_degrees(wanted - np.array(sim.motion.pose[3:])) * _TURN_GAIN
    rates = np.concatenate([sim.layout.to_base(tuple(velocity)), turn])
    return np.clip(rates / CONTROL_RATE_HZ, -ACTION_LIMIT, ACTION_LIMIT).astype(np.float32)


def _forward_speed(sim: RigSim, depth: float, retina: float) -> float:
    """mm/s along the axis: down to the target's distance and no further."""
    near_valve = abs(depth - sim.parameters.valve.depth) < 0.9 and not sim.contact.pierced
    cruise = _VALVE_SPEED if near_valve else _FREE_SPEED
    return max(-0.5, min(cruise, _APPROACH_GAIN * (retina - sim.parameters.task.target)))


def _shaft_offset(sim: RigSim, depth: float) -> tuple[float, float, float]:
    """The shaft from the axis, where it passes the entry."""
    axis = sim.eye.axis
    relative = add(add(sim.tip, sim.direction, -depth / dot(sim.direction, axis)), sim.eye.entry, -1.0)
    return add(relative, axis, -dot(relative, axis))


def _ramp(value: float, low: float, high: float) -> float:
    """0 below `low`, 1 above `high`, smooth between."""
    share = min(1.0, max(0.0, (value - low) / (high - low)))
    return 0.5 - 0.5 * math.cos(math.pi * share)


def _clip(value: float, limit: float) -> float:
    return max(-limit, min(limit, value))


class Perturbation:
    """Pushes drawn from one generator: sideways, along and turning, held for a few steps, gentler in the trocar."""

    # Chance per step that a push starts, its length in steps, its size as a fraction of the action's limit.
    _START, _STEPS, _INSIDE = 0.05, (4, 12), 0.3

    def __init__(self, rng: np.random.Generator, scale: float) -> None:
        self._rng, self._scale = rng, scale
        self._left = 0
        self._push = np.zeros(6, np.float32)

    def executed(self, clean: np.ndarray, sim: RigSim) -> np.ndarray:
        """The action to execute where the expert would do `clean`."""
        if self._left == 0 and self._rng.random() < self._START:
            self._left = int(self._rng.integers(*self._STEPS))
            self._push = self._rng.uniform(-self._scale, self._scale, 6).astype(np.float32) * ACTION_LIMIT
        if self._left == 0:
            return clean
        self._left -= 1
        gentle = self._INSIDE if sim.contact.where == "inside" else 1.0
        return np.clip(clean + gentle * self._push, -ACTION_LIMIT, ACTION_LIMIT)
