"""First runs of a policy, which are slow and should not be a robot's."""

from __future__ import annotations

import numpy as np

from policy.observation import Observation, SampleOptions
from policy.predictor import Predictor
from policy.spec import PolicySpec

# torch compiles what it has traced at the first runs; the others have done all their work after one.
_RUNS = {"torchscript": 3}


def warm_up(predictor: Predictor, max_batch: int) -> None:
    """Run a policy until its next run is as fast as all others.

    On a GPU that is once for each power of two up to `max_batch`, as the sampling step is recorded for each.
    """
    sizes = [1]
    while predictor.device != "cpu" and sizes[-1] < max_batch:
        sizes.append(2 * sizes[-1])
    observation = synthetic_observation(predictor.spec)
    for size in sizes:
        for _ in range(_RUNS.get(predictor.runtime, 1)):
            predictor.predict([observation] * size, [SampleOptions(seed=0)] * size)


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
