"""The policy that drives before the expert takes over, as late as it would be on a robot that does not wait."""

from __future__ import annotations

import numpy as np

from clients.robots.metaworld_sim import MetaWorldSim, SceneRenderer
from policy.observation import SampleOptions
from policy.predictor import Predictor
from trainer.evaluation.actors import PolicyActor

EXECUTE = 16  # 80 Hz control and 5 chunks a second


class TakeoverDriver:
    """Executes `EXECUTE` actions of each chunk; a chunk that took d control steps follows d actions of the one before.

    Args:
        policy: what drives.
        max_delay: the largest d, drawn per episode; those d actions go along as the request's prefix, as the
            realtime receiver sends them. 0 drives in lock-step.
    """

    def __init__(self, policy: Predictor, max_delay: int = 0) -> None:
        self._policy = policy
        self._max_delay = max(0, min(max_delay, policy.spec.max_prefix, policy.spec.horizon - EXECUTE))
        self._actor = PolicyActor(policy, EXECUTE, ddim_steps=None)

    def start(self, sim: MetaWorldSim, renderer: SceneRenderer, seed: int) -> None:
        self._actor.start(sim, renderer, seed)
        self._rng = np.random.default_rng(seed)
        self._delay = int(self._rng.integers(self._max_delay + 1)) if self._max_delay else 0
        self._committed: np.ndarray | None = None

    def actions(self) -> np.ndarray:
        """The next actions to execute, float32 [EXECUTE, A], physical units."""
        options = SampleOptions(seed=int(self._rng.integers(2**62)), prefix=self._committed)
        chunk = self._policy.predict([self._actor.observe()], [options])[0].actions
        if self._delay:
            self._committed = chunk[EXECUTE : EXECUTE + self._delay]
        return chunk[:EXECUTE]
