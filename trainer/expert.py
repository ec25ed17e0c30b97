"""One demonstration from a MetaWorld scripted expert, perturbed and recorded, from one seed."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from clients.lerobot_v3 import EpisodeArrays, encode_rgb
from clients.robots.metaworld_sim import MAX_STEPS, MetaWorldSim, SceneRenderer

# A perturbation is a push of random direction held for a few steps, long enough to move the hand by
# centimetres and short enough that the expert's grasp logic recovers; white noise at every step would
# instead keep it from ever being aligned.
_PUSH_PROBABILITY = 0.04
_PUSH_STEPS = (3, 11)
# Steps recorded after success, so that a demonstration also shows stopping and staying.
_LINGER_STEPS = (10, 26)


@dataclass(frozen=True)
class RolloutSettings:
    """How a demonstration is made."""

    noise: float = 1.0
    """Largest push, as a fraction of the action range; 0 records the expert alone."""
    image_every: int = 4
    """Control steps per recorded frame; every control step's action is kept."""
    quality: int = 95
    """JPEG quality (4:4:4); 0 stores PNG."""
    reopen: bool = True
    """Correct experts that leave a closed, empty gripper closed; see `expert_action`."""
    takeover_within: int = 0
    """A driver acts for up to this many control steps before the expert takes over."""
    lead_in: int = 0
    """Control steps before the expert takes over that are recorded: the executed actions are the driver's, the stored
    ones the expert's."""


@dataclass(frozen=True)
class Attempt:
    """An attempt; failed ones have no episode."""

    success: bool
    episode: EpisodeArrays | None


def make_expert(task: str) -> Any:
    """The scripted policy of a task: `get_action(observation[39]) -> action[4]`, a pure function of its input."""
    from metaworld.policies import ENV_POLICY_MAP

    policy: Any = ENV_POLICY_MAP[f"{task}-v3"]
    return policy()


# Gripper openings below this are not fully open.
_OPEN = 0.9


def expert_action(expert: Any, observation: np.ndarray, reopen: bool = False) -> np.ndarray:
    """The expert's action clipped to the action range, float32 [4].

    Some experts (pick-place) apply no effort at all while they are away from the object, so a gripper that once closed
    on nothing stays closed for ever. `reopen` makes that an opening effort.
    """
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", UserWarning
        )  # the experts warn that they exceed the range; it is clipped
        action = expert.get_action(observation.astype(np.float64))
    clipped = np.clip(np.asarray(action, np.float32), -1.0, 1.0)
    if reopen and clipped[3] == 0.0 and observation[3] < _OPEN:
        clipped[3] = -1.0
    return clipped


class Driver(Protocol):
    """Who acts before the expert takes over: a trained policy, which leads to the states where it needs help."""

    def start(self, sim: MetaWorldSim, renderer: SceneRenderer, seed: int) -> None: ...

    def actions(self) -> np.ndarray:
        """The next actions to execute, [n, 4]."""
        ...


class Perturbation:
    """Pushes drawn from one generator: the action executed differs from the clean one that is stored."""

    def __init__(self, rng: np.random.Generator, scale: float) -> None:
        self._rng = rng
        self._scale = scale
        self._left = 0
        self._push = np.zeros(3, np.float32)

    def executed(self, clean: np.ndarray) -> np.ndarray:
        """The action to execute for a clean action [4]; the gripper is never disturbed."""
        if self._left == 0 and self._rng.random() < _PUSH_PROBABILITY:
            self._left = int(self._rng.integers(*_PUSH_STEPS))
            self._push = self._rng.uniform(-self._scale, self._scale, 3).astype(np.float32)
        if self._left == 0:
            return clean
        self._left -= 1
        pushed = clean.copy()
        pushed[:3] = np.clip(pushed[:3] + self._push, -1.0, 1.0)
        return pushed


class _Frames:
    """What was recorded so far, a row per camera instant; pictures are drawn at the end, of the rows that are kept."""

    def __init__(self) -> None:
        self.physics: list[np.ndarray] = []
        self.states: list[np.ndarray] = []
        self.privileged: list[np.ndarray] = []
        self.actions: list[np.ndarray] = []
        self.executed: list[np.ndarray] = []

    def begin(self, sim: MetaWorldSim) -> None:
        """A frame is taken now."""
        self.physics.append(sim.physics_state())
        self.states.append(sim.state)
        self.privileged.append(sim.environment_state)

    def kept(
        self, first: int, task: str, renderer: SceneRenderer, settings: RolloutSettings, facts: dict[str, Any]
    ) -> EpisodeArrays:
        """The rows from `first` on."""
        images: dict[str, list[bytes]] = {}
        for physics in self.physics[first:]:
            for camera, image in renderer.render(physics).items():
                images.setdefault(camera, []).append(encode_rgb(image, settings.quality))

        def rows(values: list[np.ndarray]) -> np.ndarray:
            return np.stack(values[first:]).astype(np.float32)

        def of_frames(actions: list[np.ndarray]) -> np.ndarray:
            per_frame = np.stack(actions).astype(np.float32).reshape(len(self.physics), -1)
            return per_frame[first:]

        return EpisodeArrays(
            task=task,
            images=images,
            state=rows(self.states),
            action=of_frames(self.actions),
            environment_state=rows(self.privileged),
            executed_action=of_frames(self.executed),
            extra=facts,
        )


def _driven(driver: Driver) -> Iterator[np.ndarray]:
    while True:
        yield from driver.actions()


def demonstrate(
    sim: MetaWorldSim,
    renderer: SceneRenderer,
    expert: Any,
    seed: int,
    settings: RolloutSettings,
    driver: Driver | None = None,
) -> Attempt:
    """Roll the expert out from `seed`; same arguments, same bytes.

    With a driver, the demonstration starts where the driver was stopped (Kelly et al., "HG-DAgger", 2019). An attempt
    in which the driver needs no help counts as a failed one.
    """
    rng = np.random.default_rng(seed)
    sim.reset(int(rng.integers(2**31)))
    takeover = 0
    if driver is not None:
        driver.start(sim, renderer, int(rng.integers(2**31)))
        driven = _driven(driver)
        takeover = int(rng.integers(settings.takeover_within + 1))
    perturbation = Perturbation(rng, settings.noise)
    linger = int(rng.integers(*_LINGER_STEPS))

    frames = _Frames()
    total_reward, success_step, ends_at = 0.0, None, MAX_STEPS
    while sim.steps < ends_at:
        frames.begin(sim)
        for _ in range(settings.image_every):
            clean = expert_action(expert, sim.observation, settings.reopen)
            frames.actions.append(clean)
            if sim.steps >= MAX_STEPS:
                frames.executed.append(clean)
                continue  # the last frame is filled up with what the expert would do next
            driving = sim.steps < takeover
            executed = next(driven) if driving else perturbation.executed(clean)
            frames.executed.append(executed)
            outcome = sim.step(executed)
            total_reward += outcome.reward
            if outcome.success and driving:
                return Attempt(False, None)
            if outcome.success and success_step is None:
                success_step = sim.steps
                ends_at = min(MAX_STEPS, sim.steps + linger)
    if success_step is None:
        return Attempt(False, None)
    first = max(0, takeover - settings.lead_in) // settings.image_every
    begins = first * settings.image_every
    facts = {
        "metaworld_task": sim.task,
        "seed": seed,
        "begins_at": begins,
        "demonstrated_from": takeover - begins,
        "success_step": success_step,
        "control_steps": sim.steps,
        "return": round(total_reward, 3),
        "noise": settings.noise,
    }
    return Attempt(True, frames.kept(first, sim.instruction, renderer, settings, facts))
