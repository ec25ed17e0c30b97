"""Worker processes for simulation, each with a scene of its own: on this machine, or all over a Ray cluster."""

from __future__ import annotations

import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import wait
from typing import TYPE_CHECKING

from trainer.ray_cluster import RayCluster

if TYPE_CHECKING:
    from trainer.ray_workers import RayWorkers


WORKER_DIED = "a worker process died (out of memory?); give the same command again to go on"


def _exit_with_parent() -> None:
    """A killed parent cannot tell its workers to stop; left alone they would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="parent-watch").start()


class LocalWorkers(ProcessPoolExecutor):
    """`size` fresh interpreters on this machine, gone when their parent is."""

    def __init__(self, size: int) -> None:
        self.size = size
        context = multiprocessing.get_context("spawn")
        super().__init__(size, mp_context=context, initializer=_exit_with_parent)


def simulation_workers(count: int | None, cluster: RayCluster | None = None) -> LocalWorkers | RayWorkers:
    """A pool that runs the same jobs wherever its workers are.

    Args:
        count: of workers; None takes one per processor, of the whole cluster where there is one.
        cluster: where they are; None is this machine.

    Raises:
        UsageError: no Ray, or no cluster of that address.
    """
    # A software renderer's and a runtime's own threads would only compete with the other workers.
    os.environ.setdefault("LP_NUM_THREADS", "0")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if cluster is None:
        return LocalWorkers(count or os.cpu_count() or 1)
    from trainer.ray_workers import RayWorkers

    return RayWorkers(cluster, count)
