"""Two policies on the same needle rig scenes: who aligned, docked and reached depth, and by how much they erred."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from clients.rig_sim.lockstep import NeedleRigSim
from clients.rig_sim.parameters import load_parameters
from clients.robots.needle_rig_contract import CONTROL_RATE_HZ
from trainer.comparison.film import Filmed, KeepingRenderer
from trainer.comparison.outcome import Outcome, Pairing
from trainer.comparison.paired import compare_success, compare_values
from trainer.comparison.settings import LETTERS, CompareArgs, evaluation_of
from trainer.comparison.training import Trained
from trainer.evaluate_needle_rig import check_needle_rig, run_needle_rig
from trainer.evaluation.rig_actors import RigPolicyActor
from trainer.evaluation.rig_chart import draw_rig
from trainer.evaluation.rig_rollout import RigEpisode, run_rig_episode
from trainer.evaluation.rig_summary import rig_markdown, rig_rows, value_of
from trainer.evaluation.rig_worker import rig_views
from trainer.evaluation.subject import load_policy

# Attribute of an episode -> what it is called and how many digits it deserves.
_STAGES = {"aligned": "aligned", "docked": "docked", "success": "success"}
_VALUES = {
    "docking_lateral": ("lateral error at docking, mm", 3),
    "docking_angle": ("angle at docking, °", 2),
    "depth_error_abs": ("depth error, mm", 3),
    "path_error_mean": ("path error, mm", 3),
    "peak_axial_force": ("peak force, N", 3),
    "peak_lateral_force": ("peak lateral, N", 3),
    "seconds": ("seconds", 1),
}


def sensor_settings(args: CompareArgs, trained: Sequence[Trained]) -> tuple[bool, ...]:
    """Whether the sensor is on, run by run; policies that have none are run once.

    Raises:
        UsageError: a policy for another robot, or one that needs its sensor and is asked to do without.
    """
    settings = {"both": (True, False), "on": (True,), "off": (False,)}[args.sensor]
    if not any(one.spec.sensors for one in trained):
        settings = (True,)
    for number, one in enumerate(trained):  # before anything runs
        for sensor in settings:
            check_needle_rig(evaluation_of(args, number, sensor), one.spec)
    return settings


def pairing(title: str, first: Sequence[RigEpisode], second: Sequence[RigEpisode]) -> Pairing:
    """Paired tests of episodes that share their scenes, in order.

    Raises:
        ValueError: the scenes differ.
    """
    if [episode.seed for episode in first] != [episode.seed for episode in second]:
        raise ValueError("episodes of different scenes are no pairs")
    return Pairing(
        title=title,
        successes={
            label: compare_success([getattr(e, name) for e in first], [getattr(e, name) for e in second])
            for name, label in _STAGES.items()
        },
        values={
            label: (
                compare_values([value_of(e, name) for e in first], [value_of(e, name) for e in second]),
                digits,
            )
            for name, (label, digits) in _VALUES.items()
        },
    )


def compare_needle_rig(args: CompareArgs, trained: Sequence[Trained], console: Console) -> Outcome:
    """Run what is missing, draw it, and pair it."""
    settings = sensor_settings(args, trained)
    episodes: dict[tuple[int, bool], list[RigEpisode]] = {}
    for sensor in settings:
        for number in range(2):
            evaluation = evaluation_of(args, number, sensor)
            spec, found = run_needle_rig(evaluation, console)
            name = f"{LETTERS[number]} {spec.head}, sensor {'on' if sensor else 'off'}"
            episodes[number, sensor] = [dataclasses.replace(episode, actor=name) for episode in found]
    everything = [episode for of_one in episodes.values() for episode in of_one]
    series = {of_one[0].actor: of_one for of_one in episodes.values()}
    draw_rig(series, args.out / "compare.png", "Needle insertion in simulation, the same scenes for each")
    pairings = [
        pairing(f"A against B, sensor {'on' if s else 'off'}", episodes[0, s], episodes[1, s])
        for s in settings
    ]
    if len(settings) == 2:
        pairings += [
            pairing(f"{LETTERS[n]}, sensor on against off", episodes[n, True], episodes[n, False])
            for n in range(2)
        ]
    plan = evaluation_of(args, 0)
    rows = rig_rows(everything)
    return Outcome(
        protocol=f"Simulation (needle rig), lock-step: scenes {plan.first_seed}–{plan.first_seed + plan.episodes - 1} "
        f"for each, {plan.steps_per_chunk} actions executed per chunk.",
        table=rig_markdown(rows),
        rows=[dataclasses.asdict(row) for row in rows],
        pairings=pairings,
    )


def film_needle_rig(args: CompareArgs, number: int) -> Filmed:
    """The first scene, with the sensor unless that is switched off."""
    evaluation = evaluation_of(args, number, args.sensor != "off")
    policy = load_policy(evaluation)
    sim = NeedleRigSim(load_parameters(evaluation.rig_parameters), rig_views(policy.spec))
    renderer: Any = KeepingRenderer(sim.make_renderer())
    actor = RigPolicyActor(
        policy, renderer, evaluation.steps_per_chunk, evaluation.ddim_steps, sensor=evaluation.sensor
    )
    run_rig_episode(sim, actor, LETTERS[number], 0, evaluation.first_seed)
    observation, frames = actor.observe(), renderer.frames
    renderer.close()
    return Filmed(frames, CONTROL_RATE_HZ / evaluation.steps_per_chunk, policy, observation)
