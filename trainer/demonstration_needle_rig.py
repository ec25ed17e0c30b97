"""One demonstration on the simulated needle rig, from one seed: pictures, states, actions and the 650 Hz stream."""

from __future__ import annotations

import numpy as np

from clients.lerobot_v3 import EpisodeArrays, SensorFacts, SensorStream, encode_rgb
from clients.rig_sim.lockstep import NeedleRigSim
from clients.rig_sim.scene import RigRenderer
from clients.robots.needle_rig_contract import SENSOR, sensor_spec
from trainer.collection.settings import Until
from trainer.expert import Attempt
from trainer.expert_needle_rig import Perturbation, expert_action

# Control steps recorded after the end is reached, so that a demonstration also shows staying at depth.
_LINGER_STEPS = (10, 31)


def sensor_facts() -> dict[str, SensorFacts]:
    """What a dataset says of its streams."""
    spec = sensor_spec()
    return {SENSOR: SensorFacts(spec.channels, spec.rate_hz, spec.window, spec.units)}


def demonstrate_needle_rig(
    sim: NeedleRigSim,
    renderer: RigRenderer,
    seed: int,
    *,
    noise: float,
    frame_every: int,
    quality: int,
    until: Until = "success",
) -> Attempt:
    """Roll the expert out; same arguments, same bytes. A failed attempt has no episode.

    Args:
        noise: largest push, as a fraction of the action's limit; the pushed action is executed, the clean one stored.
        frame_every: control steps (1/20 s) per recorded frame.
        quality: of the JPEGs; 0 makes PNGs.
        until: a little after what it ends: after success, or after the needle is aligned above the trocar.
    """
    rng = np.random.default_rng(seed)
    sim.reset(int(rng.integers(2**31)))
    perturbation = Perturbation(rng, noise)
    linger = int(rng.integers(*_LINGER_STEPS))
    images: dict[str, list[bytes]] = {view: [] for view in sim.cameras}
    states, privileged, actions, executed, frame_times = [], [], [], [], []
    ends_at: int | None = None
    while ends_at is None or sim.steps < ends_at:
        snapshot = sim.snapshot()
        for view, image in renderer.render(snapshot.layout, snapshot.pose).items():
            images[view].append(encode_rgb(image, quality))
        states.append(sim.state)
        privileged.append(sim.environment_state)
        frame_times.append(sim.core.time)
        for _ in range(frame_every):
            clean = expert_action(sim.core)
            actions.append(clean)
            executed.append(perturbation.executed(clean, sim.core))
            sim.step(executed[-1])
        if sim.done and not sim.success:
            return Attempt(False, None)
        reached = sim.success if until == "success" else sim.core.stages.metrics().aligned
        if reached and ends_at is None:
            ends_at = sim.steps + linger
    times, values = sim.stream()
    metrics = sim.core.stages.metrics()
    if metrics.aborted is not None:
        return Attempt(False, None)
    extra = {
        "task": sim.task,
        "seed": seed,
        "scene_seed": sim.core.seed,
        "gauge": sim.core.layout.gauge,
        "control_steps": sim.steps,
        "noise": noise,
        "metrics": metrics.to_json(),
    }
    episode = EpisodeArrays(
        task=sim.instruction,
        images=images,
        state=np.stack(states),
        action=np.stack(actions).reshape(len(states), -1),
        environment_state=np.stack(privileged),
        executed_action=np.stack(executed).reshape(len(states), -1),
        extra=extra,
        sensors={SENSOR: SensorStream(times, values, np.array(frame_times))},
    )
    return Attempt(True, episode)
