"""Success in closed loop while a run is still training: a few episodes of its newest checkpoint, in simulation."""

from __future__ import annotations

from concurrent.futures import Executor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path

from clients.robots.metaworld_tasks import TASKS, task_name
from policy.errors import UsageError
from policy.spec import PolicySpec
from trainer.evaluation.settings import EvaluateArgs
from trainer.evaluation.subject import camera_setup
from trainer.evaluation.worker import Job, run_job
from trainer.workers import simulation_workers


class ClosedLoop:
    """Worker processes that live as long as the run, each with a scene of its own.

    Args:
        spec: the policy's; its tasks are evaluated unless `tasks` names others.
        tasks: MetaWorld tasks.
        episodes: per task; the goals are the same at every evaluation, and were never trained on.

    Raises:
        UsageError: the policy or a task is not for MetaWorld.
    """

    def __init__(
        self, spec: PolicySpec, tasks: tuple[str, ...], *, episodes: int, workers: int, seed: int
    ) -> None:
        camera_setup(spec)
        trained = [task for task in spec.instruction.by_task if task in TASKS]
        self.tasks = tuple(dict.fromkeys(map(task_name, tasks))) or tuple(trained)
        if not self.tasks:
            raise UsageError(
                "--evaluate-every: the dataset names no task of MetaWorld; give --evaluate-tasks"
            )
        self._episodes, self._workers = episodes, workers
        self._protocol = EvaluateArgs(seed=seed, execute=min(EvaluateArgs().steps_per_chunk, spec.horizon))
        self._pool: Executor | None = None

    def measure(self, checkpoint: Path) -> dict[str, float]:
        """Share of successful episodes by task, with the averaged weights of `checkpoint`."""
        if self._pool is None:
            self._pool = simulation_workers(self._workers)
        args = replace(self._protocol, checkpoint=checkpoint)
        jobs = [Job(task, "policy", episode) for task in self.tasks for episode in range(self._episodes)]
        try:
            results = list(self._pool.map(run_job, [args] * len(jobs), jobs))
        except BrokenProcessPool:
            raise UsageError(
                "a worker process of --evaluate-every died (out of memory?); give the same command with --resume "
                "to go on"
            ) from None
        return {
            task: sum(result.success for result in results if result.task == task) / self._episodes
            for task in self.tasks
        }

    def close(self) -> None:
        """End the workers."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
