"""The inference engine: one thread runs batches, every door hands it requests and gets futures."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Hashable, Sequence
from concurrent.futures import Future, InvalidStateError

import numpy as np

from policy.errors import TinyVLAError
from policy.observation import Prediction, check_observation, check_options
from policy.predictor import Predictor, batch_key
from service.dual_rate import predict
from service.metrics import Metrics
from service.policy_set import PolicySet, Resident, ServedPolicy
from service.request_id import Mark, begin, current, handling
from service.request_queue import RequestQueue, Ticket
from service.status.sessions import SessionWatch
from service.wire.messages import ActReply, ActRequest, Timing

log = logging.getLogger(__name__)

__all__ = ["Engine", "ServedPolicy", "as_refusal", "refuse", "settle"]


class Engine:
    """Batches what waits when the runtime frees up.

    Lifecycle: `start`; `install` policies, the first of which resolves `ready`; `submit` from any thread; `retire` to
    say that the end is near; `drain` refuses new work, finishes what is queued and ends the thread. A request keeps
    the policy it was submitted to, so that policies may come and go between any two batches.

    Args:
        max_batch: requests that may share one run.
        queue_size: requests that may wait; more are answered `overloaded`.
        max_wait_ms: how long a batch that is not full may wait for company.
        metrics: told of every run, supersession and missed deadline.
    """

    def __init__(
        self,
        *,
        max_batch: int = 8,
        queue_size: int = 64,
        max_wait_ms: float = 0.0,
        metrics: Metrics | None = None,
    ) -> None:
        self.metrics = metrics or Metrics()
        self.watch = SessionWatch()  # what each robot saw last, while somebody looks
        self.ready: Future[ServedPolicy] = Future()
        self._queue = RequestQueue(queue_size, max_batch)
        self._max_wait_s = max_wait_ms / 1e3
        self._free_at = 0.0  # when the last run was over, seconds of the monotonic clock
        self._changed = threading.Condition()  # guards the queue, the set of policies and `_draining`
        self._set = PolicySet()
        self._retiring = self._draining = False
        # A daemon: a run that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._main, name="engine", daemon=True)
        self.metrics.watch_queue(lambda: len(self._queue))

    @property
    def policy(self) -> ServedPolicy:
        """The active policy; raises `not_ready` before there is one and once the server is about to stop."""
        if self._retiring or self._draining:
            raise TinyVLAError("not_ready", "the server is shutting down")
        return self._set.named(None).policy

    @property
    def policies(self) -> Sequence[ServedPolicy]:
        """Every loaded policy, oldest first."""
        return [resident.policy for resident in self._set.residents]

    def named(self, name: str | None) -> ServedPolicy:
        """The policy a request means; raises `unknown_policy` or `not_ready`."""
        return self._set.named(name).policy

    def start(self) -> None:
        """Begin to run batches; returns at once."""
        self._thread.start()

    def install(self, predictor: Predictor, *, activate: bool, source: str | None = None) -> ServedPolicy:
        """Serve a loaded and warm policy from the next batch on; the engine's thread owns it from now on.

        The same policy, by hash, is not kept twice: the one that is there stays. The first one becomes active.
        """
        policy = ServedPolicy.of(predictor, source)
        with self._changed:
            resident = next((r for r in self._set.residents if r.policy.hash == policy.hash), None)
            if resident is None:
                resident = Resident(policy, predictor)
                self._set = self._set.with_policy(resident, activate=activate)
            elif activate:
                self._activate(resident)
            self._tell()
        return resident.policy

    def activate(self, name: str) -> ServedPolicy:
        """Let requests that name no policy go to this one; raises `unknown_policy`."""
        with self._changed:
            resident = self._set.one(name)
            self._activate(resident)
            self._tell()
        log.info("%s is active", resident.policy.label)
        return resident.policy

    def unload(self, name: str) -> ServedPolicy:
        """Take no more requests for a policy; what is queued for it still runs.

        Raises:
            TinyVLAError: `unknown_policy`, or `forbidden` for the active one.
        """
        with self._changed:
            resident = self._set.one(name)
            self._set = self._set.without(resident)
            self._tell()
        log.info("unloaded %s", resident.policy.label)
        return resident.policy

    def fail(self, error: BaseException) -> None:
        """The first policy could not be loaded: `ready` raises this."""
        if not self.ready.done():
            self.ready.set_exception(error)

    def submit(
        self,
        request: ActRequest,
        *,
        arrived: float | None = None,
        decode_ms: float = 0.0,
        future: Future[ActReply] | None = None,
        client: Hashable = None,
    ) -> Future[ActReply]:
        """Queue a request. Never raises: a refusal is the future's exception, a `TinyVLAError`.

        Cancelling the future while it waits costs nobody a run.

        Args:
            request: what to draw a chunk for.
            arrived: `time.monotonic()` when it reached the door, from where its deadline counts; default now.
            decode_ms: what the door spent on decoding, for the reply's timing.
            future: resolved with the outcome; a new one by default.
            client: who sent it, as far as the door can tell; requests without a session take turns by it.
        """
        now = time.monotonic()
        future = Future() if future is None else future
        try:
            resident = self._set.named(request.policy)
            spec = resident.policy.spec
            resident.policy.check_expected(request.expects)
            # Checked here rather than in the batch, where one misfit would spoil the others' run.
            check_observation(spec, request.observation)
            check_options(spec, request.options)
            arrived = now if arrived is None else arrived
            key = (resident.policy.label, batch_key(spec, request.options))
            mark = current()
            self._enqueue(Ticket(request, arrived, now, decode_ms, key, future, resident, client, mark), now)
        except TinyVLAError as error:
            refuse(future, error)
        return future

    def forget_session(self, session: str) -> None:
        """A session starts over: what it has waiting is answered `superseded`, what it saw is not used again."""
        with self._changed:
            waiting = self._queue.drop_session(session)
            for resident in self._set.residents:
                resident.seen.forget(session, time.monotonic())
        for ticket in waiting:
            self._supersede(ticket)

    def retire(self) -> None:
        """Readiness drops; whatever has reached the server is still served."""
        self._retiring = True

    def drain(self, timeout: float) -> bool:
        """Refuse new work and finish what is queued; False when that took longer than `timeout` seconds."""
        with self._changed:
            self._draining = True
            self._changed.notify()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _activate(self, resident: Resident) -> None:
        """With the lock held."""
        if resident is not self._set.active:
            resident.seen.clear()  # whatever its sessions saw before they went to another policy is long ago
        self._set = self._set.activated(resident)

    def _tell(self) -> None:
        """After every change of the set, with the lock held."""
        active = self._set.named(None).policy
        self.metrics.serving(self.policies, active)
        if not self.ready.done():
            self.ready.set_result(active)

    def _enqueue(self, ticket: Ticket, now: float) -> None:
        if ticket.deadline <= now:
            self._miss(ticket)
            return
        with self._changed:
            if self._draining:
                raise TinyVLAError("not_ready", "the server is shutting down")
            displaced = self._queue.put(ticket)
            self._changed.notify()
        if displaced.superseded is not None:
            self._supersede(displaced.superseded)
        if displaced.evicted is not None:
            refuse(displaced.evicted.future, self._queue.overload())

    def _main(self) -> None:
        while self._run_next():
            pass

    def _run_next(self) -> bool:
        """One batch. It is let go of before the next one is waited for: its policy may have been unloaded."""
        batch = self._next_batch()
        if batch:
            self._run(batch)
            self._free_at = time.monotonic()
        return batch is not None

    def _next_batch(self) -> list[Ticket] | None:
        """Wait for work, and for company where that is wanted; None when draining and nothing is left."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._queue) or self._draining)
            while self._max_wait_s and not self._draining:
                wait_s = self._queue.wait_s(time.monotonic(), self._max_wait_s, self._free_at)
                if wait_s <= 0:
                    break
                self._changed.wait(wait_s)
            if not len(self._queue) and self._draining:
                return None
            taken = self._queue.take(time.monotonic())
        for ticket in taken.expired:
            self._miss(ticket)
        # Whoever cancelled its future meanwhile costs no run.
        return [ticket for ticket in taken.batch if ticket.future.set_running_or_notify_cancel()]

    def _run(self, batch: list[Ticket]) -> None:
        resident = batch[0].resident
        assert resident is not None
        started = time.monotonic()
        try:
            answered = list(zip(batch, predict(resident, batch), strict=True))
        except Exception as error:
            if len(batch) > 1:  # one request's trouble is not the others'
                for ticket in batch:
                    self._run([ticket])
            else:
                refuse(batch[0].future, error, batch[0].mark)
            return
        left = len(self._queue)  # before those who are answered ask again
        for ticket, (prediction, vl_age_ms) in answered:
            if not np.isfinite(prediction.actions).all():
                label = resident.policy.label
                trouble = ArithmeticError(f"{label} drew NaN or infinite actions")
                refuse(ticket.future, trouble, ticket.mark)
                continue
            reply = _reply(resident.policy, ticket, prediction, vl_age_ms, started, len(batch))
            settle(ticket.future, reply)
            # Nobody should wait for the counting.
            self.metrics.replied(reply.timing_ms)
            if vl_age_ms:
                self.metrics.reused()
            self.watch.saw(ticket.request, reply, time.monotonic())
        self.metrics.ran(len(batch), left)

    def _miss(self, ticket: Ticket) -> None:
        self.metrics.deadline_missed()
        detail = f"not started within deadline_ms={ticket.request.deadline_ms:g}"
        refuse(ticket.future, TinyVLAError("deadline_exceeded", detail, field="deadline_ms"))

    def _supersede(self, ticket: Ticket) -> None:
        self.metrics.superseded()
        detail = "a newer observation of the same session took this one's place"
        refuse(ticket.future, TinyVLAError("superseded", detail, field="session"))


def settle(future: Future[ActReply], reply: ActReply) -> None:
    """Resolve a future that its owner may have cancelled."""
    try:
        future.set_result(reply)
    except InvalidStateError:
        log.debug("a reply was ready for a request that had been cancelled")


def as_refusal(error: Exception) -> TinyVLAError:
    """The error as clients may see it: anything unforeseen is logged under the request's id, and only that is told."""
    if isinstance(error, TinyVLAError):
        return error
    mark = current() or begin()
    log.error("internal error %s", mark.id, exc_info=error, extra={"fields": {"code": "internal"}})
    return TinyVLAError("internal", f"internal error; the server's log has it under {mark.id}")


def refuse(future: Future[ActReply], error: Exception, mark: Mark | None = None) -> None:
    """Fail a future that its owner may have cancelled; `mark` tells the request where this thread has several."""
    with handling(mark or current()):
        refusal = as_refusal(error)
    try:
        future.set_exception(refusal)
    except InvalidStateError:
        log.debug("a refusal (%s) was ready for a request that had been cancelled", refusal.code)


def _reply(
    policy: ServedPolicy,
    ticket: Ticket,
    prediction: Prediction,
    vl_age_ms: float | None,
    started: float,
    batch: int,
) -> ActReply:
    request = ticket.request
    return ActReply(
        actions=prediction.actions,
        rate_hz=policy.spec.action.rate_hz,
        horizon=len(prediction.actions),
        policy=policy.label,
        ddim_steps=prediction.ddim_steps,
        sampler=prediction.sampler,
        seed=prediction.seed,
        timing_ms=Timing(
            decode=ticket.decode_ms,
            queue=(started - ticket.queued) * 1e3,
            encode=prediction.encode_ms,
            sample=prediction.sample_ms,
            total=(time.monotonic() - ticket.arrived) * 1e3,
            batch=batch,
        ),
        uncertainty=prediction.uncertainty,
        vl_age_ms=vl_age_ms,
        session=request.session,
        seq=request.seq,
        timestamp_ns=request.timestamp_ns,
    )
