"""A synthetic observation that fits a contract: the first run, which is slow, should not be a robot's."""

from __future__ import annotations

import numpy as np

from policy.observation import Observation
from policy.spec import PolicySpec


def synthetic_observation(spec: PolicySpec) -> Observation:
    """Black images, the state in the middle of its range, one of the trained instructions, empty sensors."""
    texts = [text for texts in spec.instruction.by_task.values() for text in texts]
    low, high = spec.normalization.state.minimum, spec.normalization.state.maximum
    return Observation(
        images={c.name: np.zeros((c.height, c.width, 3), np.uint8) for c in spec.cameras},
        state=((np.asarray(low) + np.asarray(high)) / 2).astype(np.float32),
        instruction=texts[0] if texts else "warm up",
        sensors={s.name: np.zeros((s.window, s.channels), np.float32) for s in spec.sensors},
    )
