"""Who acts in an evaluation: a policy, or one of the references that say what its success rate means."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from clients.robots.metaworld_sim import MetaWorldSim, SceneRenderer
from policy.observation import Observation, SampleOptions
from policy.predictor import Predictor
from trainer.expert import expert_action, make_expert

REFERENCES = ("zero", "random", "expert")


class Actor(Protocol):
    """Decides the next actions in lock-step."""

    def start(self, sim: MetaWorldSim, renderer: SceneRenderer, seed: int) -> None:
        """Begin an episode."""
        ...

    def actions(self) -> np.ndarray:
        """The actions to execute before asking again, [n, 4]."""
        ...


class PolicyActor:
    """A policy that sees images, state and instruction, and executes the first `execute` actions of each chunk."""

    def __init__(
        self, policy: Predictor, execute: int, ddim_steps: int | None, instruction: str | None = None
    ) -> None:
        self._policy = policy
        self._execute = execute
        self._ddim_steps = ddim_steps
        self._instruction = instruction

    def start(self, sim: MetaWorldSim, renderer: SceneRenderer, seed: int) -> None:
        self._sim, self._renderer = sim, renderer
        self._rng = np.random.default_rng(seed)

    def observe(self) -> Observation:
        """What the policy is shown now."""
        images = self._renderer.render(self._sim.physics_state())
        return Observation(images, self._sim.state, self._instruction or self._sim.instruction)

    def actions(self) -> np.ndarray:
        options = SampleOptions(ddim_steps=self._ddim_steps, seed=int(self._rng.integers(2**62)))
        return self._policy.predict([self.observe()], [options])[0].actions[: self._execute]


class ReferenceActor:
    """`zero` does nothing, `random` draws uniformly, `expert` is MetaWorld's scripted policy, which sees everything."""

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def start(self, sim: MetaWorldSim, renderer: SceneRenderer, seed: int) -> None:
        self._sim = sim
        self._rng = np.random.default_rng(seed)
        self._expert: Any = make_expert(sim.task) if self._kind == "expert" else None

    def actions(self) -> np.ndarray:
        if self._kind == "zero":
            return np.zeros((1, 4), np.float32)
        if self._kind == "random":
            return self._rng.uniform(-1, 1, (1, 4)).astype(np.float32)
        return expert_action(self._expert, self._sim.observation)[None]
