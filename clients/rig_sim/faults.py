"""What may go wrong on purpose: lost packets, a lost camera, a silent sensor, a clock that is off."""

from __future__ import annotations

import random
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Faults:
    """None, unless asked for."""

    loss: float = 0.0  # share of messages of each stream that never arrive
    lost_view: str | None = None
    lost_after: float = 0.0  # seconds of the episode, for the lost view
    silence: tuple[float, float] | None = None  # the sensor says nothing from, to: seconds of the episode
    clock_offset: float = 0.0  # seconds by which the rig's clock is ahead
    _rng: random.Random = field(default_factory=lambda: random.Random(0), repr=False)

    def lost(self) -> bool:
        """Whether this message gets lost."""
        return self.loss > 0 and self._rng.random() < self.loss

    def view_lost(self, view: str, time: float) -> bool:
        """Whether a camera says nothing any more at this time of the episode."""
        return view == self.lost_view and time >= self.lost_after

    def sensor_silent(self, time: float) -> bool:
        """Whether the sensor says nothing at this time of the episode."""
        return self.silence is not None and self.silence[0] <= time < self.silence[1]
