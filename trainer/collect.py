"""`tinyvla collect`: demonstrations from scripted experts, in parallel, exactly reproducible, resumable."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace

from rich.console import Console
from rich.progress import TaskID

from clients.lerobot_v3 import finalize_dataset, staged_keys
from clients.robots import metaworld_sim, needle_rig_contract
from policy.errors import UsageError
from service.flags import parse_flags
from trainer.collection.attempts import Job, TaskAttempts, earlier_outcomes
from trainer.collection.resuming import check_resumable
from trainer.collection.settings import CollectArgs, check_flags
from trainer.collection.sources import metaworld_source, needle_rig_source
from trainer.progress_bars import episode_bars
from trainer.ray_cluster import RayCluster, with_absolute_paths
from trainer.workers import WORKER_DIED, simulation_workers


def _fill(
    attempts: TaskAttempts,
    submit: Callable[[Job], Future[bool]],
    workers: int,
    show: Callable[[int], None],
) -> list[str]:
    """Make attempts until the task is full; returns the keys of the episodes that are kept."""
    jobs = attempts.jobs()
    pending: dict[Future[bool], Job] = {}
    while True:
        show(min(attempts.wanted, sum(attempts.outcome.values())))
        kept = attempts.kept()
        if kept is not None:
            return [Job(attempts.task, attempt).key for attempt in kept]
        while len(pending) < 2 * workers and (job := next(jobs, None)) is not None:
            pending[submit(job)] = job
        for future in wait(pending, return_when=FIRST_COMPLETED).done:
            attempts.outcome[pending.pop(future).attempt] = future.result()
        attempts.check()


def collect(args: CollectArgs, console: Console | None = None) -> None:
    """Fill `args.out` with a dataset.

    Raises:
        UsageError: unknown task or camera, a directory in use for something else, or a worker that died.
    """
    console = console or Console()
    if not args.cameras:
        of = {"metaworld": metaworld_sim.DEFAULT_CAMERAS, "needle-rig": needle_rig_contract.VIEWS}
        args = replace(args, cameras=of[args.robot])
    check_flags(args)
    make_source = needle_rig_source if args.robot == "needle-rig" else metaworld_source
    source = make_source(with_absolute_paths(args))
    wanted = source.wanted
    # Bad input and a missing GL library show here, once, and before anything is written.
    source.check()
    if check_resumable(args.out, source.settings):
        console.print(f"{args.out} is already complete")
        return

    staged = staged_keys(args.out)
    keys: list[str] = []
    rig_file = args.rig_parameters if args.robot == "needle-rig" else None
    cluster = RayCluster.of(args.ray, args.out, args.takeover, rig_file)
    with episode_bars(console) as progress, simulation_workers(args.workers, cluster) as pool:
        overall = progress.add_task("all tasks", total=sum(wanted.values()))
        try:
            for task, count in wanted.items():
                bar = progress.add_task(task, total=count)
                before = progress.tasks[overall].completed

                def show(successes: int, bar: TaskID = bar, before: float = before) -> None:
                    progress.update(bar, completed=successes)
                    progress.update(overall, completed=before + successes)

                attempts = TaskAttempts(task, count, earlier_outcomes(args.out, task, staged))
                keys += _fill(attempts, lambda job: pool.submit(source.run, job), pool.size, show)
        except BrokenProcessPool:
            raise UsageError(WORKER_DIED) from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    finalize_dataset(args.out, keys, source.facts)
    console.print(f"{len(keys)} episodes in {args.out}")


def main(argv: list[str]) -> int:
    """Entry of `tinyvla collect`."""
    collect(parse_flags(CollectArgs, argv, "tinyvla collect"))
    return 0
