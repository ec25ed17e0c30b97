"""Synthetic OCT A-lines: dB over depth below the tip, with speckle, attenuation and the surfaces that lie there.

An A-line is made of templates, one a surface, shifted to the surface's distance; a sum of intensities over a noise
floor of 0 dB; fully developed speckle (exponentially distributed intensity); the fall-off of sensitivity with depth.
Noise follows from the episode's seed and the sample's number alone, so any sample can be made when it is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clients.rig_sim.parameters import RigParameters
from clients.robots.needle_rig_contract import ALINE_POINTS

# Samples whose noise is drawn together; also what a datagram carries.
BLOCK = 13
# Template points per A-line point: surfaces move by less than a point.
_FINE = 4
# Share of a reflector's light that does not fluctuate.
_STEADY = 0.7
_FLOOR_DB = -10.0
NOWHERE = np.inf


@dataclass(frozen=True)
class Surfaces:
    """Distances along the needle from the tip, mm, per sample; `NOWHERE` where there is none. float64 [n] each."""

    cap: np.ndarray
    sclera: np.ndarray
    valve: np.ndarray
    retina: np.ndarray


class AlineModel:
    """Makes the A-lines of one episode."""

    def __init__(self, parameters: RigParameters, seed: int) -> None:
        self._pitch = parameters.oct.pitch
        self._jitter = parameters.oct.jitter
        self._seed = seed
        self._templates = _templates(parameters)
        depth = np.arange(ALINE_POINTS) * self._pitch
        self._fall_off = (10 ** (-parameters.oct.roll_off * depth / 10)).astype(np.float32)
        self._haze = np.float32(10 ** (parameters.oct.vitreous_level / 10) - 1)

    def alines(self, first: int, surfaces: Surfaces) -> np.ndarray:
        """float32 [n, 1025] in dB of the samples `first`, `first` + 1, ..."""
        count = len(surfaces.cap)
        start, end = first // BLOCK, -(-(first + count) // BLOCK)
        noise = np.concatenate([self._noise(block) for block in range(start, end)])
        noise = noise[first - start * BLOCK :][:count]
        speckle, jitter = noise[:, :-1], noise[:, -1]
        mean = np.full((count, ALINE_POINTS), self._haze, np.float32)
        for name, (steady, rough) in self._templates.items():
            distances = getattr(surfaces, name) + (jitter - 1) * self._jitter
            self._add(mean, speckle, distances, steady, rough)
        intensity = mean * self._fall_off + speckle
        return 10 * np.log10(np.maximum(intensity, np.float32(10 ** (_FLOOR_DB / 10))))

    def _noise(self, block: int) -> np.ndarray:
        """Exponential speckle [BLOCK, 1025] and one more column for the jitter of distances."""
        rng = np.random.Generator(np.random.Philox(key=[self._seed, block]))
        return rng.standard_exponential((BLOCK, ALINE_POINTS + 1), dtype=np.float32)

    def _add(
        self,
        mean: np.ndarray,
        speckle: np.ndarray,
        distances: np.ndarray,
        steady: np.ndarray,
        rough: np.ndarray,
    ) -> None:
        """Add a surface's light to the rows where it is in reach."""
        rows = np.flatnonzero(distances < ALINE_POINTS * self._pitch)
        if not len(rows):
            return
        # Point i of the A-line lies i * pitch - distance below the surface; a template starts one A-line above it.
        shift = np.rint(distances[rows] / self._pitch * _FINE).astype(np.int32)
        index = np.arange(ALINE_POINTS, dtype=np.int32) * _FINE + ALINE_POINTS * _FINE - shift[:, None]
        np.clip(index, 0, len(steady) - 1, out=index)
        mean[rows] += steady[index] + rough[index] * speckle[rows]


def _templates(parameters: RigParameters) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Surface -> light that is steady and light that speckles, over depth below it, linear in intensity."""
    p = parameters.oct
    depth = (np.arange(3 * ALINE_POINTS * _FINE) / _FINE - ALINE_POINTS) * p.pitch
    below = np.maximum(depth, 0.0)

    def peak(at: float, level: float, width: float = p.axial_width) -> np.ndarray:
        return 10 ** (level / 10) * np.exp(-0.5 * ((depth - at) / width) ** 2)

    def tail(level: float, decay: float, begin: float = 0.0) -> np.ndarray:
        return np.where(depth >= begin, 10 ** (level / 10) * np.exp(-2 * (below - begin) / decay), 0.0)

    thick = p.retina_thickness
    # Nerve fibre layer bright, then plexiform and nuclear layers in turn, the pigment epithelium, choroid below.
    layers = np.zeros_like(depth)
    for begin, end, level in (
        (0.0, 0.16, -4),
        (0.16, 0.40, -9),
        (0.40, 0.52, -13),
        (0.52, 0.60, -9),
        (0.60, 0.94, -15),
    ):
        inside = (depth >= begin * thick) & (depth < end * thick)
        layers[inside] = 10 ** ((p.retina_level + level) / 10)
    retina_peaks = peak(0.0, p.retina_level) + peak(thick, p.retina_level + 6, 1.5 * p.axial_width)
    parts = {
        "cap": (peak(0.0, p.cap_level), tail(p.cap_level - 22, 0.15)),
        "sclera": (peak(0.0, p.sclera_level), tail(p.sclera_level - 6, p.sclera_decay)),
        "valve": (peak(0.0, p.valve_level) + peak(0.15, p.valve_level - 3), 0.0 * depth),
        "retina": (retina_peaks, layers + tail(p.retina_level, 0.2, thick)),
    }
    return {
        name: ((_STEADY * peaks).astype(np.float32), (rough + (1 - _STEADY) * peaks).astype(np.float32))
        for name, (peaks, rough) in parts.items()
    }
