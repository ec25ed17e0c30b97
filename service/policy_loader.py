"""Loads and warms policies on a thread of its own, so that those being served do not wait for it."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from policy.errors import TinyVLAError, UsageError
from policy.predictor import Predictor
from service.engine import Engine, as_refusal
from service.freed_memory import give_back
from service.policy_set import ServedPolicy
from service.warmup import warm_up

log = logging.getLogger(__name__)

_WAITING = 8  # loads; each takes seconds and memory
_SHUTTING_DOWN = "the server is shutting down"


@dataclass(frozen=True)
class Load:
    """One policy to load.

    `make` reads and verifies it; it is called on the loader's thread.
    """

    make: Callable[[], Predictor]
    source: str | None = None  # where it comes from, for people
    activate: bool = False


@dataclass(frozen=True)
class _Job:
    loads: Sequence[Load]
    future: Future[list[ServedPolicy]] = field(default_factory=Future)


class PolicyLoader:
    """One job after the other; what fails leaves the engine as it was.

    Args:
        engine: gets what was loaded, warm.
        max_batch: what policies are warmed up for.
    """

    def __init__(self, engine: Engine, *, max_batch: int) -> None:
        self._engine, self._max_batch = engine, max_batch
        self._closed = False
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        # A daemon: a load that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._main, name="loader", daemon=True)

    def start(self) -> None:
        """Begin to load; returns at once."""
        self._thread.start()

    def load(self, *loads: Load) -> Future[list[ServedPolicy]]:
        """Load some policies; they are installed together, when all of them are warm.

        The future raises what loading raised, `UsageError` for a bundle that does not pass.

        Raises:
            TinyVLAError: `overloaded` when many loads wait already, `not_ready` when the server shuts down.
        """
        if self._closed:
            raise TinyVLAError("not_ready", _SHUTTING_DOWN)
        if self._jobs.qsize() >= _WAITING:
            raise TinyVLAError("overloaded", f"{_WAITING} loads wait already; try again when they are done")
        job = _Job(loads)
        self._jobs.put(job)
        return job.future

    def close(self, timeout: float) -> None:
        """Start no other job, and wait for the one that runs, but no longer than `timeout` seconds."""
        self._closed = True
        self._jobs.put(None)
        self._thread.join(timeout)
        while not self._thread.is_alive() and not self._jobs.empty():  # asked for while it closed
            if (job := self._jobs.get()) is not None:
                job.future.set_exception(TinyVLAError("not_ready", _SHUTTING_DOWN))

    def _main(self) -> None:
        while self._do_next():
            pass

    def _do_next(self) -> bool:
        """One job, of which nothing is kept while the next one is waited for: policies are large."""
        job = self._jobs.get()
        if job is None:
            return False
        if self._closed:
            job.future.set_exception(TinyVLAError("not_ready", _SHUTTING_DOWN))
        elif job.future.set_running_or_notify_cancel():
            self._do(job)
        del job
        give_back()  # what loading needed
        return True

    def _do(self, job: _Job) -> None:
        try:
            ready = [(load, self._warm(load)) for load in job.loads]
        except Exception as error:
            self._engine.metrics.loaded("refused")
            job.future.set_exception(error)
            return
        served = []
        for load, predictor in ready:
            policy = self._engine.install(predictor, activate=load.activate, source=load.source)
            self._engine.metrics.loaded("ok")
            log.info(
                "loaded %s%s: runtime=%s (%s) device=%s reuses_features=%s%s",
                policy.label,
                f" from {load.source}" if load.source else "",
                policy.runtime,
                policy.why,
                policy.device,
                policy.reuses_features,
                ", active" if load.activate else "",
            )
            served.append(policy)
        job.future.set_result(served)

    def _warm(self, load: Load) -> Predictor:
        predictor = load.make()
        warm_up(predictor, self._max_batch)
        return predictor


def load_refusal(error: BaseException) -> TinyVLAError:
    """What whoever asked for a bundle is told about one that did not pass."""
    if isinstance(error, UsageError):
        return TinyVLAError("contract_mismatch", str(error), field="bundle")
    return as_refusal(error if isinstance(error, Exception) else RuntimeError(repr(error)))
