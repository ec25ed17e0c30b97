"""One demonstration from a MetaWorld scripted expert, perturbed and recorded, from one seed."""

from __future__ import annotations

import warnings
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
    """A driver acts for up to this many control steps, unrecorded, before the expert takes over."""


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


def _drive(sim: MetaWorldSim, driver: Driver, steps: int) -> bool:
    """Let `driver` act for at least `steps` control steps; True when it needed no help."""
    while sim.steps < steps:
        for action in driver.actions():
            if sim.step(action).success:
                return True
    return False


def demonstrate(
    sim: MetaWorldSim,
    renderer: SceneRenderer,
    expert: Any,
    seed: int,
    settings: RolloutSettings,
    driver: Driver | None = None,
) -> Attempt:
    """Roll the expert out from `seed`; same arguments, same bytes.

    With a driver, the demonstration starts where the driver was stopped (Kelly et al., "HG-DAgger", 2019).
    """
    rng = np.random.default_rng(seed)
    sim.reset(int(rng.integers(2**31)))
    if driver is not None:
        driver.start(sim, renderer, int(rng.integers(2**31)))
        if _drive(sim, driver, int(rng.integers(settings.takeover_within + 1))):
            return Attempt(False, None)
    taken_over = sim.steps
    perturbation = Perturbation(rng, settings.noise)
    linger = int(rng.integers(*_LINGER_STEPS))

    images: dict[str, list[bytes]] = {camera: [] for camera in sim.cameras}
    states, privileged, actions = [], [], []
    total_reward, success_step, ends_at = 0.0, None, MAX_STEPS
    while sim.steps < ends_at:
        for camera, image in renderer.render(sim.physics_state()).items():
            images[camera].append(encode_rgb(image, settings.quality))
        states.append(sim.state)
        privileged.append(sim.environment_state)
        chunk = []
        for _ in range(settings.image_every):
            clean = expert_action(expert, sim.observation, settings.reopen)
            chunk.append(clean)
            if sim.steps >= MAX_STEPS:
                continue  # the last frame is filled up with what the expert would do next
            outcome = sim.step(perturbation.executed(clean))
            total_reward += outcome.reward
            if outcome.success and success_step is None:
                success_step = sim.steps
                ends_at = min(MAX_STEPS, sim.steps + linger)
        actions.append(np.concatenate(chunk))
    if success_step is None:
        return Attempt(False, None)
    facts = {
        "metaworld_task": sim.task,
        "seed": seed,
        "success_step": success_step,
        "control_steps": sim.steps,
        "taken_over_at": taken_over,
        "return": round(total_reward, 3),
        "noise": settings.noise,
    }
    episode = EpisodeArrays(
        task=sim.instruction,
        images=images,
        state=np.stack(states).astype(np.float32),
        action=np.stack(actions).astype(np.float32),
        environment_state=np.stack(privileged).astype(np.float32),
        extra=facts,
    )
    return Attempt(True, episode)
