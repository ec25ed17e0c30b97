"""Who acts on the simulated needle rig: a policy, or one of the references that say what its success rate means."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import numpy as np

from clients.rig_sim.live import encode_view
from clients.rig_sim.lockstep import NeedleRigSim
from clients.rig_sim.scene import RigRenderer
from clients.robots.needle_rig_contract import ACTION_LIMIT
from clients.robots.rig_wire import decode_jpeg
from policy.observation import Observation, SampleOptions
from policy.predictor import Predictor
from trainer.expert_needle_rig import Perturbation, expert_action

Act = Callable[[NeedleRigSim], np.ndarray]


class RigActor(Protocol):
    """Decides the next actions in lock-step."""

    def start(self, sim: NeedleRigSim, seed: int) -> None:
        """Begin an episode."""
        ...

    def actions(self) -> np.ndarray:
        """The actions to execute before asking again, float32 [n, 6]."""
        ...

    @property
    def inference_ms(self) -> list[float]:
        """How long each chunk of the episode took; empty where nothing is inferred."""
        ...


class RigPolicyActor:
    """A policy that sees what the wire would carry, and executes the first `execute` actions of each chunk.

    Args:
        instruction: in place of the task's own.
        sensor: whether it is shown the needle tip's sensor, if it takes one.
    """

    def __init__(
        self,
        policy: Predictor,
        renderer: RigRenderer,
        execute: int,
        ddim_steps: int | None,
        instruction: str | None = None,
        *,
        sensor: bool = True,
    ) -> None:
        self._policy, self._renderer = policy, renderer
        self._execute, self._ddim_steps, self._instruction = execute, ddim_steps, instruction
        self._sensor = sensor and bool(policy.spec.sensors)

    def close(self) -> None:
        """Free the renderer's GL context, which nothing else would while the process lives."""
        self._renderer.close()

    def start(self, sim: NeedleRigSim, seed: int) -> None:
        self._sim = sim
        self._rng = np.random.default_rng(seed)
        self._taken: list[float] = []

    def observe(self) -> Observation:
        """What the policy is shown now; pictures went through the wire's JPEG, as in demonstrations."""
        snapshot, quality = self._sim.snapshot(), self._sim.parameters.cameras.quality
        images = {
            view: decode_jpeg(encode_view(image, quality))
            for view, image in self._renderer.render(snapshot.layout, snapshot.pose).items()
        }
        sensors = self._sim.sensors() if self._sensor else {}
        return Observation(images, self._sim.state, self._instruction or self._sim.instruction, sensors)

    def actions(self) -> np.ndarray:
        observation = self.observe()
        options = SampleOptions(ddim_steps=self._ddim_steps, seed=int(self._rng.integers(2**62)))
        began = time.perf_counter()
        (prediction,) = self._policy.predict([observation], [options])
        self._taken.append(1e3 * (time.perf_counter() - began))
        return prediction.actions[: self._execute]

    @property
    def inference_ms(self) -> list[float]:
        return self._taken


def _expert(rng: np.random.Generator) -> Act:
    return lambda sim: expert_action(sim.core)


def _pushed(rng: np.random.Generator) -> Act:
    pushes = Perturbation(rng, 1.0)
    return lambda sim: pushes.executed(expert_action(sim.core), sim.core)


def _zero(rng: np.random.Generator) -> Act:
    return lambda sim: np.zeros(6, np.float32)


def _random(rng: np.random.Generator) -> Act:
    return lambda sim: rng.uniform(-ACTION_LIMIT, ACTION_LIMIT, 6).astype(np.float32)


REFERENCES: dict[str, Callable[[np.random.Generator], Act]] = {
    "expert": _expert, "expert, pushed": _pushed, "zero": _zero, "random": _random,
}  # fmt: skip


class RigReferenceActor:
    """One of `REFERENCES`; the experts see the truth, and `pushed` ones meet the pushes of demonstrations."""

    def __init__(self, name: str) -> None:
        self._make = REFERENCES[name]
        self.inference_ms: list[float] = []

    def start(self, sim: NeedleRigSim, seed: int) -> None:
        self._sim = sim
        self._act = self._make(np.random.default_rng([seed, 0xEF]))

    def actions(self) -> np.ndarray:
        return self._act(self._sim)[None]
