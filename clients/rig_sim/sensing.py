"""What the needle tip's sensor measures: distances along the needle and force, 650 times a second, kept per episode."""

from __future__ import annotations

import math

import numpy as np

from clients.rig_sim.aline import NOWHERE, AlineModel, Surfaces
from clients.rig_sim.contact import NeedleContact, Reaction
from clients.rig_sim.eye import EyePhantom
from clients.rig_sim.geometry import Vec, add, dot, norm
from clients.rig_sim.layout import Layout
from clients.rig_sim.parameters import RigParameters
from clients.rig_sim.timing import STEPS_PER_SAMPLE, seconds
from clients.robots.needle_rig_contract import SENSOR_CHANNELS

_COLUMNS = ("cap", "sclera", "valve", "retina", "force")
_NOISE_TABLE = 4096


class NeedleSensor:
    """The stream of one episode. A-lines are made when they are read."""

    def __init__(self, parameters: RigParameters, layout: Layout, seed: int) -> None:
        self._parameters, self._layout = parameters, layout
        self._model = AlineModel(parameters, seed)
        noise = np.random.default_rng([seed, 0xF02CE]).standard_normal(_NOISE_TABLE)
        self._force_noise: list[float] = (parameters.force_sensor.noise * noise).tolist()
        self._rows = np.empty((1024, len(_COLUMNS)))
        self.count = 0

    def measure(
        self, tip: Vec, direction: Vec, eye: EyePhantom, contact: NeedleContact, reaction: Reaction
    ) -> None:
        """Take the next sample."""
        if self.count == len(self._rows):
            self._rows = np.concatenate([self._rows, np.empty_like(self._rows)])
        force = reaction.axial_force + self._layout.force_bias + self._force_noise[self.count % _NOISE_TABLE]
        self._rows[self.count] = (*self._distances(tip, direction, eye, contact, reaction), force)
        self.count += 1

    def times(self, first: int, end: int) -> np.ndarray:
        """float64 [end - first]: seconds since the scene was laid out."""
        return np.array([seconds(k * STEPS_PER_SAMPLE) for k in range(first, end)])

    def values(self, first: int, end: int) -> np.ndarray:
        """float32 [end - first, 1026]: force in N, then the A-line in dB."""
        rows = self._rows[first:end]
        values = np.empty((len(rows), SENSOR_CHANNELS), np.float32)
        if len(rows):
            values[:, 0] = rows[:, 4]
            values[:, 1:] = self._model.alines(first, Surfaces(*rows[:, :4].T))
        return values

    def _distances(
        self, tip: Vec, direction: Vec, eye: EyePhantom, contact: NeedleContact, reaction: Reaction
    ) -> tuple[float, float, float, float]:
        """Cap, sclera, valve and retina along the ray from the tip."""
        slope = dot(direction, eye.axis)
        depth = reaction.depth
        if slope <= 0.1:  # pointing elsewhere
            return NOWHERE, NOWHERE, NOWHERE, NOWHERE
        retina = (self._layout.retina_depth - depth) / slope
        trocar = self._parameters.trocar
        valve = (self._parameters.valve.depth - depth) / slope
        if contact.pierced or valve < 0:
            valve = NOWHERE
        if contact.where == "inside":
            return NOWHERE, NOWHERE, valve, retina
        to_cap = -depth / slope
        across = self._off_axis(tip, direction, eye, to_cap)
        if across <= self._layout.inner_radius:
            return NOWHERE, NOWHERE, valve, retina
        if across <= trocar.cap_radius:
            return max(0.0, to_cap), NOWHERE, NOWHERE, NOWHERE
        below = trocar.cap_height + across * across / (2 * self._parameters.eye.radius)
        return NOWHERE, max(0.0, (below - depth) / slope), NOWHERE, NOWHERE

    @staticmethod
    def _off_axis(tip: Vec, direction: Vec, eye: EyePhantom, along: float) -> float:
        hit = add(add(tip, direction, along), eye.entry, -1.0)
        return norm(add(hit, eye.axis, -dot(hit, eye.axis)))


def retina_distance(layout: Layout, reaction: Reaction, direction: Vec, eye: EyePhantom) -> float:
    """Millimetres from the tip to the retina along the needle; infinite where the needle points elsewhere."""
    slope = dot(direction, eye.axis)
    return (layout.retina_depth - reaction.depth) / slope if slope > 0.1 else math.inf
