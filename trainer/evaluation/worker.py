"""One evaluation episode in a worker process, which keeps its policy and its scene from one episode to the next."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from clients.robots import metaworld_sim
from policy.predictor import Predictor
from trainer.evaluation.actors import Actor, PolicyActor, ReferenceActor
from trainer.evaluation.rollout import EpisodeResult, run_episode
from trainer.evaluation.settings import EvaluateArgs
from trainer.evaluation.subject import camera_setup, load_policy, written

# Evaluation seeds live in a space of their own: no goal here was ever drawn for training.
_EVALUATION = 0xE7A1


@dataclass(frozen=True)
class Job:
    """One episode to run."""

    task: str
    actor: str
    episode: int


def episode_seed(seed: int, task: str, episode: int) -> int:
    """Seed of an evaluation episode; the same for every actor, so that they face the same goals."""
    sequence = np.random.SeedSequence([_EVALUATION, seed, zlib.crc32(task.encode()), episode])
    return int(sequence.generate_state(1)[0]) % 2**31


class _Workplace:
    """What this process keeps."""

    def __init__(self) -> None:
        self._policy: Predictor | None = None
        self._loaded: tuple[object, ...] = ()  # what `_policy` is
        self._sim: metaworld_sim.MetaWorldSim | None = None
        self._renderer: metaworld_sim.SceneRenderer | None = None

    def policy(self, args: EvaluateArgs) -> Predictor:
        """The policy under evaluation; loaded anew when it is another one."""
        wanted = (args.bundle, args.checkpoint, args.weights, args.runtime, written(args.checkpoint))
        if self._policy is None or self._loaded != wanted:
            self._policy, self._loaded = load_policy(args), wanted
        return self._policy

    def scene(self, task: str) -> tuple[metaworld_sim.MetaWorldSim, metaworld_sim.SceneRenderer]:
        """The task's simulator and renderer, with the cameras of the policy where there is one."""
        cameras: tuple[str, ...] = metaworld_sim.DEFAULT_CAMERAS
        size = 128
        if self._policy is not None:
            cameras, size = camera_setup(self._policy.spec)
        there = self._sim and (self._sim.task, self._sim.cameras, self._sim.size)
        if self._sim is None or self._renderer is None or there != (task, cameras, size):
            if self._renderer is not None:
                self._renderer.close()
            self._sim = metaworld_sim.MetaWorldSim(task, cameras, size)
            self._renderer = self._sim.make_renderer()
        return self._sim, self._renderer


_PLACE = _Workplace()


def run_job(args: EvaluateArgs, job: Job) -> EpisodeResult:
    """Run one episode."""
    actor: Actor
    if job.actor == "policy":
        actor = PolicyActor(_PLACE.policy(args), args.steps_per_chunk, args.ddim_steps, args.instruction)
    else:
        actor = ReferenceActor(job.actor)
    sim, renderer = _PLACE.scene(job.task)
    return run_episode(
        sim, renderer, actor, job.actor, job.episode, episode_seed(args.first_seed, job.task, job.episode)
    )
