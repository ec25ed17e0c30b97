"""From a dataset to the contract of the policies trained on it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clients.lerobot_v3 import DatasetFacts, LeRobotDataset
from clients.rig_sim import lockstep
from clients.robots import metaworld_sim, needle_rig_contract
from policy.errors import UsageError
from policy.normalize import range_stats
from policy.spec import (
    ActionSpec,
    CameraSpec,
    InstructionSpec,
    Normalization,
    PolicySpec,
    SamplerSpec,
    StateSpec,
)
from trainer.cache import FrameCache
from trainer.sensor_windows import absent_somewhere, sensor_specs, sensor_stats
from trainer.settings import TrainArgs

# What a dataset's robot_type says about units and about what an action is. Recordings say it themselves; of other
# robots it is taken that they make unitless deltas.
_ROBOTS: dict[str, dict[str, Any]] = {
    "metaworld": {
        "state_units": metaworld_sim.STATE_UNITS,
        "action_units": metaworld_sim.ACTION_UNITS,
        "action_kind": "delta",
    },
    "needle-rig": {
        "state_units": needle_rig_contract.STATE_UNITS,
        "action_units": needle_rig_contract.ACTION_UNITS,
        "environment_units": lockstep.ENVIRONMENT_STATE_UNITS,
        "action_kind": "delta",
    },
}


def _robot_of(facts: DatasetFacts) -> dict[str, Any]:
    """`state_units`, `action_units` and `action_kind`."""
    dims = (len(facts.state_names), len(facts.action_names))
    other = {"state_units": ("1",) * dims[0], "action_units": ("1",) * dims[1], "action_kind": "delta"}
    known = _ROBOTS.get(facts.robot_type or "", other)
    if (len(known["state_units"]), len(known["action_units"])) != dims:
        known = other  # somebody else's robot of that name
    told = {**known, **facts.free}
    return {name: told[name] if name == "action_kind" else tuple(told[name]) for name in other}


def environment_units(facts: DatasetFacts) -> dict[str, str]:
    """Unit of each privileged value; metres of robots that do not say."""
    names = tuple(facts.environment_state_names or ())
    units = _ROBOTS.get(facts.robot_type or "", {}).get("environment_units", ("m",) * len(names))
    return dict(zip(names, units, strict=False))


def cameras_of(facts: DatasetFacts) -> tuple[CameraSpec, ...]:
    """The cameras of a dataset at the resolution they were recorded in.

    Raises:
        UsageError: no cameras, or cameras of different sizes, which one vision encoder cannot share.
    """
    sizes = set(facts.cameras.values())
    if len(sizes) != 1:
        found = ", ".join(f"{name} {h} x {w}" for name, (h, w) in facts.cameras.items()) or "none"
        raise UsageError(f"a policy needs cameras of one size; the dataset has {found}")
    return tuple(CameraSpec(name=name, height=h, width=w) for name, (h, w) in facts.cameras.items())


def check_alike(datasets: Sequence[LeRobotDataset]) -> None:
    """Raise UsageError unless the datasets may be trained on together."""
    first = datasets[0]
    mine = _compared(first.facts)
    for other in datasets[1:]:
        for field, theirs in _compared(other.facts).items():
            if theirs != mine[field]:
                raise UsageError(
                    f"{other.root} differs from {first.root} in {field}: {theirs} against {mine[field]}"
                )
        if other.sensors != first.sensors:
            raise UsageError(f"{other.root} differs from {first.root} in its sensors")


def _compared(facts: DatasetFacts) -> dict[str, Any]:
    """What datasets that are trained on together have in common, beside their sensors."""
    fields = (
        "cameras", "state_names", "action_names", "actions_per_frame", "control_rate_hz", "environment_state_names",
    )  # fmt: skip
    return {field: getattr(facts, field) for field in fields} | _robot_of(facts)


def check_same_senses(found: PolicySpec, wanted: PolicySpec, where: str) -> None:
    """Raise UsageError unless weights made for `found` see and do, in order, what `wanted` does."""
    for part, of in {
        "cameras": lambda spec: [camera.name for camera in spec.cameras],
        "state": lambda spec: _with_units(spec.state),
        "actions": lambda spec: [f"{spec.action.kind} {action}" for action in _with_units(spec.action)],
        "sensors": lambda spec: [f"{s.name} [{s.channels} x {s.units}]" for s in spec.sensors],
    }.items():
        if of(found) != of(wanted):
            raise UsageError(f"{where}: its {part} are {of(found)}, the dataset's are {of(wanted)}")


def _with_units(part: StateSpec | ActionSpec) -> list[str]:
    return [f"{name} [{units}]" for name, units in zip(part.names, part.units, strict=True)]


def make_spec(
    args: TrainArgs, facts: DatasetFacts, caches: Sequence[FrameCache], training: Sequence[np.ndarray]
) -> PolicySpec:
    """The contract; statistics come from the training episodes alone.

    Args:
        training: per cache the numbers of its training episodes.
    """
    robot = _robot_of(facts)
    states, actions = [], []
    by_task: dict[str, tuple[str, ...]] = {}
    for cache, episodes in zip(caches, training, strict=True):
        starts, per_frame = cache.episode_starts, cache.actions_per_frame
        for episode in episodes:
            first, end = starts[episode], starts[episode + 1]
            states.append(cache.state[first:end])
            actions.append(cache.actions[first * per_frame : end * per_frame])
        for name, text in ((cache.task_names[episode], cache.tasks[episode]) for episode in episodes):
            if text not in by_task.get(name, ()):
                by_task[name] = (*by_task.get(name, ()), text)
    streams = {
        name: [
            cache.streams[episode][name]
            for cache, episodes in zip(caches, training, strict=True)
            for episode in episodes
        ]
        for name in caches[0].sensors
    }
    sensors = sensor_specs(
        caches[0].sensors,
        optional=[
            name
            for name, told in caches[0].sensors.items()
            if args.sensor_dropout > 0 or absent_somewhere(streams[name], told)
        ],
    )
    action_stats = range_stats(np.concatenate(actions))
    # A dimension that never moves in the data still needs an interval as its bounds.
    high = tuple(
        max(hi, lo + 1e-3) for lo, hi in zip(action_stats.minimum, action_stats.maximum, strict=True)
    )
    diffusion = SamplerSpec(
        train_steps=args.diffusion_timesteps,
        prediction_type=args.prediction_type,
        default_steps=min(args.ddim_steps, args.diffusion_timesteps),
        temperature=args.temperature,
    )
    return PolicySpec(
        name=args.name or Path(os.path.abspath(args.out)).name,  # `--out .` has a name, too
        cameras=cameras_of(facts),
        state=StateSpec(names=tuple(facts.state_names), units=robot["state_units"]),
        instruction=InstructionSpec(required=len(by_task) > 1, by_task=by_task),
        action=ActionSpec(
            names=tuple(facts.action_names),
            units=robot["action_units"],
            kind=robot["action_kind"],
            low=action_stats.minimum,
            high=high,
            rate_hz=facts.control_rate_hz,
        ),
        horizon=args.horizon,
        head=args.head,
        sampler=diffusion if args.head == "diffusion" else None,
        max_prefix=args.max_prefix,
        sensors=sensors,
        normalization=Normalization(
            state=range_stats(np.concatenate(states)),
            action=action_stats,
            sensors={name: sensor_stats(parts) for name, parts in streams.items()},
        ),
    )
