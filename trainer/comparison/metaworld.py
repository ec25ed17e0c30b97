"""Two policies on the same MetaWorld goals: who succeeded, and in how many steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from clients.robots.metaworld_sim import CONTROL_RATE_HZ, MetaWorldSim
from clients.robots.metaworld_tasks import task_names
from policy.errors import UsageError
from trainer.comparison.film import Filmed, KeepingRenderer
from trainer.comparison.outcome import Outcome, Pairing
from trainer.comparison.paired import compare_success, compare_values
from trainer.comparison.settings import LETTERS, CompareArgs, evaluation_of
from trainer.comparison.training import Trained
from trainer.evaluate import check_metaworld, run_metaworld
from trainer.evaluation.actors import PolicyActor
from trainer.evaluation.chart import bar_chart
from trainer.evaluation.rollout import EpisodeResult, run_episode
from trainer.evaluation.subject import camera_setup, load_policy
from trainer.evaluation.summary import markdown, rows_of
from trainer.evaluation.worker import episode_seed


def pairing(title: str, first: Sequence[EpisodeResult], second: Sequence[EpisodeResult]) -> Pairing:
    """Paired tests of episodes that share task and goal, in order; all tasks together and each by itself.

    Raises:
        ValueError: the goals differ.
    """
    if [(e.task, e.seed) for e in first] != [(e.task, e.seed) for e in second]:
        raise ValueError("episodes of different goals are no pairs")
    tasks = list(dict.fromkeys(episode.task for episode in first))

    def won(episodes: Sequence[EpisodeResult], task: str | None) -> list[bool]:
        return [episode.success for episode in episodes if task in (None, episode.task)]

    def steps(episodes: Sequence[EpisodeResult]) -> list[float | None]:
        return [episode.steps if episode.success else None for episode in episodes]

    successes = {"success, all tasks": compare_success(won(first, None), won(second, None))}
    if len(tasks) > 1:
        successes |= {task: compare_success(won(first, task), won(second, task)) for task in tasks}
    return Pairing(title, successes, {"steps to success": (compare_values(steps(first), steps(second)), 1)})


def compare_metaworld(args: CompareArgs, trained: Sequence[Trained], console: Console) -> Outcome:
    """Run what is missing, draw it, and pair it.

    Raises:
        UsageError: a policy for another robot, or a flag of one.
    """
    if args.sensor != "both":
        raise UsageError("--sensor is for --robot needle-rig; MetaWorld has no sensors")
    for number, one in enumerate(trained):  # before anything runs
        check_metaworld(evaluation_of(args, number), one.spec)
    episodes: list[list[EpisodeResult]] = []
    for number in range(2):
        spec, _, found = run_metaworld(evaluation_of(args, number), console)
        name = f"{LETTERS[number]} {spec.head}"
        episodes.append([dataclasses.replace(episode, actor=name) for episode in found])
    rows = rows_of([*episodes[0], *episodes[1]])
    bar_chart(
        rows, args.out / "compare.png", "Success in simulation on the same goals, Wilson 95 % intervals"
    )
    plan = evaluation_of(args, 0)
    return Outcome(
        protocol=f"Simulation (MetaWorld), lock-step: {args.episodes} episodes a task on the same goals for each, none "
        f"of them trained on, {plan.steps_per_chunk} actions executed per chunk, seed {plan.first_seed}.",
        table=markdown(rows),
        rows=[dataclasses.asdict(row) for row in rows],
        pairings=[pairing("A against B", *episodes)],
    )


def film_metaworld(args: CompareArgs, number: int) -> Filmed:
    """The first episode of the first task."""
    evaluation = evaluation_of(args, number)
    policy = load_policy(evaluation)
    task = task_names(evaluation.tasks)[0]
    cameras, size = camera_setup(policy.spec)
    sim = MetaWorldSim(task, cameras, size)
    renderer: Any = KeepingRenderer(sim.make_renderer())
    actor = PolicyActor(policy, evaluation.steps_per_chunk, evaluation.ddim_steps)
    run_episode(sim, renderer, actor, LETTERS[number], 0, episode_seed(evaluation.first_seed, task, 0))
    observation, frames = actor.observe(), renderer.frames
    renderer.close()
    sim.close()
    return Filmed(frames, CONTROL_RATE_HZ / evaluation.steps_per_chunk, policy, observation)
