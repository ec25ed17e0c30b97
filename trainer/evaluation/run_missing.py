"""What an evaluation has not run yet, in parallel processes, into a journal; and whose journal it is."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Future, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TypeVar

from rich.console import Console

from clients.lerobot_v3.atomic import write_json_atomically
from clients.lerobot_v3.opening import load_json
from policy.errors import UsageError
from trainer.evaluation.journal import Journal
from trainer.progress_bars import episode_bars
from trainer.ray_cluster import RayCluster
from trainer.workers import WORKER_DIED, simulation_workers

Job = TypeVar("Job", bound=Hashable)
Result = TypeVar("Result")


def keep_same_protocol(out: Path, protocol: Mapping[str, object]) -> None:
    """Note under `out` what its results are of.

    Raises:
        UsageError: it holds results of another policy or protocol, does not tell which, or cannot be written.
    """
    note = out / "protocol.json"
    if not note.exists():
        write_json_atomically(note, protocol)
    elif load_json(note) != protocol:
        raise UsageError(f"{out} holds results of another policy or protocol; choose another --out")


def run_missing(
    run: Callable[[Job], Result],
    jobs: Sequence[Job],
    journal: Journal[Result],
    job_of: Callable[[Result], Job],
    workers: int | None,
    console: Console,
    cluster: RayCluster | None = None,
) -> None:
    """Run the jobs that no result of the journal answers.

    Args:
        run: a job in a worker process; picklable.
        job_of: the job that a result answers.
        workers: how many; None takes one per processor.
        cluster: where they are; None is this machine.

    Raises:
        UsageError: a worker died; what was run is in the journal.
    """
    done = {job_of(result) for result in journal.done}
    missing = [job for job in jobs if job not in done]
    if not missing:
        return
    with episode_bars(console) as progress, simulation_workers(workers, cluster) as pool:
        bar = progress.add_task("episodes", total=len(jobs), completed=len(jobs) - len(missing))
        futures: list[Future[Result]] = [pool.submit(run, job) for job in missing]
        try:
            for future in as_completed(futures):
                journal.add(future.result())
                progress.advance(bar)
        except BrokenProcessPool:
            raise UsageError(WORKER_DIED) from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
