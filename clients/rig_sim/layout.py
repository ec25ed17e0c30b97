"""What an episode's scene is: everything random, drawn from one seed before anything moves."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from clients.rig_sim.geometry import (
    Vec,
    add,
    angles_of_direction,
    euler_matrix,
    perpendicular,
    rotated,
    turn_matrix,
)
from clients.rig_sim.parameters import Range, RigParameters

Gauge = Literal["23G", "25G"]


@dataclass(frozen=True)
class Layout:
    """One scene, in the world's frame: mm, z up, the resting globe's centre at the origin."""

    gauge: Gauge
    inner_radius: float
    capture: float  # mm; how far off the axis a tip is still guided in
    entry: Vec  # middle of the cap's top, eye at rest
    axis: Vec  # unit; from the entry into the eye
    retina_depth: float  # mm below the entry, along the axis
    valve_stiffness: float
    valve_rupture: float
    valve_friction: float
    force_bias: float
    breathing: float  # mm
    breathing_rate: float  # Hz
    breathing_phase: float  # radians
    base_turn: np.ndarray  # float64 [3, 3]: how far the arm's frame is turned against what is believed
    base_offset: np.ndarray  # float64 [3], mm
    tool_offset: np.ndarray  # float64 [3], mm, in the needle's frame
    start: np.ndarray  # float64 [6]: the pose the arm reports at the start

    def to_base(self, world: Vec) -> np.ndarray:
        """A world direction or displacement in the arm's own frame."""
        return self.base_turn.T @ np.array(world)


def nominal_entry(parameters: RigParameters) -> np.ndarray:
    """float64 [3]: the entry of a trocar that stands where it should; the arm's frame is calibrated there."""
    polar = math.radians(parameters.trocar.polar)
    reach = parameters.eye.radius + parameters.trocar.cap_height
    return np.array([0.0, -math.sin(polar), math.cos(polar)]) * reach


def draw_layout(parameters: RigParameters, seed: int) -> Layout:
    """The scene of a seed."""
    rng = np.random.default_rng([seed, 0x21C])
    ranges, trocar, eye, valve = parameters.episode, parameters.trocar, parameters.eye, parameters.valve

    def draw(span: Range) -> float:
        return float(rng.uniform(*span))

    gauge: Gauge = "23G" if rng.random() < 0.5 else "25G"
    reach = eye.radius + trocar.cap_height
    nominal = nominal_entry(parameters)
    outward = (float(nominal[0] / reach), float(nominal[1] / reach), float(nominal[2] / reach))
    # Moving the trocar over the globe turns its radius with it.
    first, second = perpendicular(outward)
    for way in (first, second):
        outward = rotated(outward, _scaled(way, draw(ranges.trocar_offset) / eye.radius))
    axis = _scaled(outward, -1.0)
    for way in perpendicular(outward):
        axis = rotated(axis, _scaled(way, math.radians(draw(ranges.trocar_tilt))))
    entry = _scaled(outward, reach)

    turn = np.radians([draw(ranges.base_turn) for _ in range(3)])
    base_turn = turn_matrix((float(turn[0]), float(turn[1]), float(turn[2])))
    base_offset = np.array([draw(ranges.base_offset) for _ in range(3)])
    tool_offset = np.array([draw(ranges.tool_offset), draw(ranges.tool_offset), 0.0])

    tip = add(add(entry, axis, -draw(ranges.start_height)), _across(axis, rng), draw(ranges.start_lateral))
    direction = rotated(axis, _scaled(_across(axis, rng), math.radians(draw(ranges.start_angle))))
    a, b = angles_of_direction(tuple(base_turn.T @ np.array(direction)))
    roll = parameters.arm.home_roll + draw(ranges.start_roll)
    position = base_turn.T @ (np.array(tip) - nominal - base_offset) + nominal - parameters.arm.base
    position = position - euler_matrix(a, b, roll) @ tool_offset
    narrow = gauge == "25G"
    return Layout(
        gauge=gauge,
        inner_radius=(trocar.inner_diameter_25g if narrow else trocar.inner_diameter_23g) / 2,
        capture=trocar.capture_25g if narrow else trocar.capture_23g,
        entry=entry,
        axis=axis,
        retina_depth=draw(parameters.retina.depth),
        valve_stiffness=draw(valve.stiffness),
        valve_rupture=draw(valve.rupture),
        valve_friction=draw(valve.friction),
        force_bias=draw(parameters.force_sensor.bias),
        breathing=draw(eye.breathing),
        breathing_rate=draw(eye.breathing_rate),
        breathing_phase=draw((0.0, 2 * math.pi)),
        base_turn=base_turn,
        base_offset=base_offset,
        tool_offset=tool_offset,
        start=np.array([*position, a, b, roll]),
    )


def _scaled(v: Vec, scale: float) -> Vec:
    return (v[0] * scale, v[1] * scale, v[2] * scale)


def _across(axis: Vec, rng: np.random.Generator) -> Vec:
    """A random unit vector across `axis`."""
    first, second = perpendicular(axis)
    angle = float(rng.uniform(0, 2 * math.pi))
    return add(_scaled(first, math.cos(angle)), second, math.sin(angle))
