"""The simulation workers of a Ray cluster: a pool that takes the same jobs as that of local processes."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from policy.errors import UsageError
from trainer.ray_cluster import RayCluster, connect

_TRIES_AGAIN = 3  # of a job whose worker or machine died under it


def _run_there(function: Callable[..., Any], arguments: tuple[Any, ...], shares: tuple[Path, ...]) -> Any:
    """One job, in a worker process; Ray keeps the process, and with it the scene and the policy, for the next one."""
    for path in shares:
        if not path.exists():
            raise UsageError(
                f"{socket.gethostname()} does not see {path}: it must lie where every machine of the cluster "
                "finds it, under the same name"
            )
    return function(*arguments)


class RayWorkers(Executor):
    """`size` jobs at a time, one processor each; the rest wait here.

    A job whose worker dies is run again elsewhere, by Ray, up to three times: jobs are functions of their arguments,
    and what they write is whole or absent.
    """

    def __init__(self, cluster: RayCluster, size: int | None) -> None:
        self._ray = connect(cluster, size)
        self.size = size or max(1, int(self._ray.cluster_resources().get("CPU", 1)))
        self._shares = cluster.shares
        self._remote = self._ray.remote(num_cpus=1, max_retries=_TRIES_AGAIN)(_run_there)
        self._threads = ThreadPoolExecutor(self.size, thread_name_prefix="ray-job")
        self._lock = threading.Lock()
        self._running: set[Any] = set()
        self._cancelled = False

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """The job's result, or what it raised.

        Raises:
            UsageError: in the future; its workers died every time, or do not see what they must.
        """
        assert not kwargs
        return self._threads.submit(self._result, function, args)

    def _result(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        with self._lock:
            if self._cancelled:
                raise UsageError("cancelled")
            reference = self._remote.remote(function, arguments, self._shares)
            self._running.add(reference)
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except self._ray.exceptions.RayError as error:
            raise UsageError(
                f"a worker died {1 + _TRIES_AGAIN} times on the same episode ({type(error).__name__}; out of memory?); "
                "give the same command again to go on"
            ) from None
        finally:
            with self._lock:
                self._running.discard(reference)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Disconnect, and end a cluster that was started for this; running jobs are waited for unless cancelled."""
        if cancel_futures:
            with self._lock:
                self._cancelled = True
                running = list(self._running)
            for reference in running:
                self._ray.cancel(reference, force=True)
        self._threads.shutdown(wait=True, cancel_futures=cancel_futures)
        self._ray.shutdown()
