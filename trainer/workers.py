"""Worker processes for simulation: one software-rendered scene each, gone when their parent is."""

from __future__ import annotations

import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import wait


def _exit_with_parent() -> None:
    """A killed parent cannot tell its workers to stop; left alone they would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="parent-watch").start()


def simulation_workers(count: int) -> ProcessPoolExecutor:
    """A pool of `count` fresh interpreters."""
    # A software renderer's and a runtime's own threads would only compete with the other workers.
    os.environ.setdefault("LP_NUM_THREADS", "0")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(count, mp_context=context, initializer=_exit_with_parent)
