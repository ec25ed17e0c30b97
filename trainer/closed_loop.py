"""Success in closed loop while a run is still training: a few episodes of its newest checkpoint, in simulation."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import Executor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path

from clients.robots.metaworld_tasks import TASKS, task_name
from clients.robots.needle_rig_contract import STATE_NAMES, TASK
from policy.errors import UsageError
from policy.spec import PolicySpec
from trainer.evaluation.rig_worker import RigJob, rig_views, run_rig_job
from trainer.evaluation.settings import EvaluateArgs
from trainer.evaluation.subject import camera_setup
from trainer.evaluation.worker import Job, run_job
from trainer.workers import simulation_workers

# Scenes apart from those of `tinyvla evaluate`: a checkpoint that was chosen by these is measured on others.
_FIRST_SEED = 500_000


def _metaworld_tasks(spec: PolicySpec, named: tuple[str, ...]) -> tuple[str, ...]:
    camera_setup(spec)
    trained = [task for task in spec.instruction.by_task if task in TASKS]
    tasks = tuple(dict.fromkeys(map(task_name, named))) or tuple(trained)
    if not tasks:
        raise UsageError("--evaluate-every: the dataset names no task of MetaWorld; give --evaluate-tasks")
    return tasks


def _rig_tasks(spec: PolicySpec, named: tuple[str, ...]) -> tuple[str, ...]:
    rig_views(spec)
    if set(named) - {TASK}:
        raise UsageError(f"--evaluate-tasks is for MetaWorld; the needle rig has {TASK} alone")
    return (TASK,)


class ClosedLoop:
    """Worker processes that live as long as the run, each with a scene of its own.

    Args:
        spec: the policy's: of MetaWorld, or of the needle rig. Its tasks are evaluated unless `tasks` names others.
        tasks: MetaWorld tasks.
        episodes: per task; the scenes are the same at every evaluation, were never trained on, and are not those of
            `tinyvla evaluate`.

    Raises:
        UsageError: a policy of neither, or a task that its robot does not have.
    """

    def __init__(
        self, spec: PolicySpec, tasks: tuple[str, ...], *, episodes: int, workers: int, seed: int
    ) -> None:
        self._rig = tuple(spec.state.names) == STATE_NAMES
        self.tasks = _rig_tasks(spec, tasks) if self._rig else _metaworld_tasks(spec, tasks)
        self._episodes, self._workers = episodes, workers
        usual = EvaluateArgs(robot="needle-rig" if self._rig else "metaworld")
        self._protocol = replace(
            usual, seed=_FIRST_SEED + seed, execute=min(usual.steps_per_chunk, spec.horizon)
        )
        self._pool: Executor | None = None

    def measure(self, checkpoint: Path) -> dict[str, float]:
        """Share of successful episodes by task, with the averaged weights of `checkpoint`."""
        if self._pool is None:
            self._pool = simulation_workers(self._workers)
        args = replace(self._protocol, checkpoint=checkpoint)
        asked = [(task, episode) for task in self.tasks for episode in range(self._episodes)]
        repeated = [args] * len(asked)
        try:
            if self._rig:
                rig_jobs = [RigJob("policy", episode) for _, episode in asked]
                successes = [found.success for found in self._pool.map(run_rig_job, repeated, rig_jobs)]
            else:
                jobs = [Job(task, "policy", episode) for task, episode in asked]
                successes = [found.success for found in self._pool.map(run_job, repeated, jobs)]
        except BrokenProcessPool:
            raise UsageError(
                "a worker process of --evaluate-every died (out of memory?); give the same command with --resume "
                "to go on"
            ) from None
        reached = Counter(task for (task, _), success in zip(asked, successes, strict=True) if success)
        return {task: reached[task] / self._episodes for task in self.tasks}

    def close(self) -> None:
        """End the workers."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
