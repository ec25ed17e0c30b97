"""The inference engine: one thread owns the runtime, every door hands it requests and gets futures."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass

import numpy as np

from policy.errors import TinyVLAError
from policy.observation import Prediction, SampleOptions, check_observation, check_options
from policy.predictor import Predictor, batch_key
from policy.spec import PolicySpec
from service.metrics import Metrics
from service.request_queue import RequestQueue, Ticket
from service.warmup import synthetic_observation
from service.wire.messages import ActReply, ActRequest, Timing

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServedPolicy:
    """What the doors may know of the loaded policy; the runtime itself stays on the engine's thread."""

    spec: PolicySpec
    label: str  # name@first-12-of-hash
    runtime: str
    device: str

    def answers_to(self, name: str | None) -> bool:
        """True when a request that names `name` means this policy."""
        return name in (None, self.spec.name, self.label)


class Engine:
    """Batches what waits when the runtime frees up, and never waits for more.

    Lifecycle: `start`, then `ready` resolves after warm-up (or raises what loading raised); `submit` from
    any thread; `drain` refuses new work, finishes what is queued and ends the thread.

    Args:
        make_predictor: called on the engine's thread, which then owns what it returns.
        max_batch: requests that may share one run.
        queue_size: requests that may wait; more are answered `overloaded`.
        metrics: told of every run, supersession and missed deadline.
    """

    def __init__(
        self,
        make_predictor: Callable[[], Predictor],
        *,
        max_batch: int = 8,
        queue_size: int = 64,
        metrics: Metrics | None = None,
    ) -> None:
        self.metrics = metrics or Metrics()
        self.ready: Future[ServedPolicy] = Future()
        self._make_predictor = make_predictor
        self._queue = RequestQueue(queue_size, max_batch)
        self._changed = threading.Condition()  # guards the queue and `_draining`
        self._draining = False
        self._policy: ServedPolicy | None = None
        # A daemon: a load that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._main, name="engine", daemon=True)
        self.metrics.watch_queue(lambda: len(self._queue))

    @property
    def policy(self) -> ServedPolicy:
        """The policy being served; raises `not_ready` before warm-up is over and once the server stops."""
        if self._draining:
            raise TinyVLAError("not_ready", "the server is shutting down")
        if self._policy is None:
            raise TinyVLAError("not_ready", "the policy is still loading; /readyz tells when it is ready")
        return self._policy

    def named(self, name: str | None) -> ServedPolicy:
        """The policy a request means; raises `unknown_policy` or `not_ready`."""
        policy = self.policy
        if not policy.answers_to(name):
            raise TinyVLAError(
                "unknown_policy",
                f"no policy {name!r} is loaded",
                field="policy",
                expected=f"{policy.spec.name} or {policy.label}",
                actual=name,
            )
        return policy

    def start(self) -> None:
        """Load the policy and warm it up on the engine's thread; returns at once."""
        self._thread.start()

    def submit(
        self,
        request: ActRequest,
        *,
        arrived: float | None = None,
        decode_ms: float = 0.0,
        future: Future[ActReply] | None = None,
    ) -> Future[ActReply]:
        """Queue a request. Never raises: a refusal is the future's exception, a `TinyVLAError`.

        Args:
            request: what to draw a chunk for.
            arrived: `time.monotonic()` when it reached the door, from where its deadline counts; default now.
            decode_ms: what the door spent on decoding, for the reply's timing.
            future: resolved with the outcome; a new one by default.
        """
        now = time.monotonic()
        future = Future() if future is None else future
        try:
            spec = self.named(request.policy).spec
            # Checked here rather than in the batch, where one misfit would spoil the others' run.
            check_observation(spec, request.observation)
            check_options(spec, request.options)
            arrived = now if arrived is None else arrived
            key = batch_key(spec, request.options)
            self._enqueue(Ticket(request, arrived, now, decode_ms, key, future), now)
        except TinyVLAError as error:
            refuse(future, error)
        return future

    def forget_session(self, session: str) -> None:
        """A session starts over: its waiting request, if any, is answered `superseded`."""
        with self._changed:
            ticket = self._queue.drop_session(session)
        if ticket is not None:
            self._supersede(ticket)

    def drain(self, timeout: float) -> bool:
        """Refuse new work and finish what is queued; False when that took longer than `timeout` seconds."""
        with self._changed:
            self._draining = True
            self._changed.notify()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _enqueue(self, ticket: Ticket, now: float) -> None:
        if ticket.deadline <= now:
            self._miss(ticket)
            return
        with self._changed:
            if self._draining:
                raise TinyVLAError("not_ready", "the server is shutting down")
            superseded = self._queue.put(ticket)
            self._changed.notify()
        if superseded is not None:
            self._supersede(superseded)

    def _main(self) -> None:
        try:
            predictor = self._make_predictor()
            spec = predictor.spec
            predictor.predict([synthetic_observation(spec)], [SampleOptions(seed=0)])
            policy = ServedPolicy(spec, spec.label, predictor.runtime, predictor.device)
        except Exception as error:
            self.ready.set_exception(error)
            return
        self._policy = policy
        self.metrics.serving(policy.label, policy.runtime, policy.device)
        self.ready.set_result(policy)
        while (batch := self._next_batch()) is not None:
            self._run(predictor, policy, batch)

    def _next_batch(self) -> list[Ticket] | None:
        """Wait for work; None when draining and nothing is left."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._queue) or self._draining)
            if not len(self._queue):
                return None
            taken = self._queue.take(time.monotonic())
        for ticket in taken.expired:
            self._miss(ticket)
        # Whoever cancelled its future meanwhile costs no run.
        return [ticket for ticket in taken.batch if ticket.future.set_running_or_notify_cancel()]

    def _run(self, predictor: Predictor, policy: ServedPolicy, batch: list[Ticket]) -> None:
        if not batch:
            return
        started = time.monotonic()
        observations = [ticket.request.observation for ticket in batch]
        options = [ticket.request.options for ticket in batch]
        try:
            answered = list(zip(batch, predictor.predict(observations, options), strict=True))
        except Exception as error:
            if len(batch) > 1:  # one request's trouble is not the others'
                for ticket in batch:
                    self._run(predictor, policy, [ticket])
            else:
                refuse(batch[0].future, error)
            return
        self.metrics.ran(len(batch))
        for ticket, prediction in answered:
            if not np.isfinite(prediction.actions).all():
                refuse(ticket.future, ArithmeticError(f"{policy.label} drew NaN or infinite actions"))
                continue
            reply = _reply(policy, ticket, prediction, started, len(batch))
            self.metrics.replied(reply.timing_ms)
            settle(ticket.future, reply)

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
    """The error as clients may see it: anything unforeseen is logged under an id, and only the id is told."""
    if isinstance(error, TinyVLAError):
        return error
    reference = uuid.uuid4().hex[:12]
    log.error("internal error %s", reference, exc_info=error)
    return TinyVLAError("internal", f"internal error; the server's log has it under {reference}")


def refuse(future: Future[ActReply], error: Exception) -> None:
    """Fail a future that its owner may have cancelled."""
    refusal = as_refusal(error)
    try:
        future.set_exception(refusal)
    except InvalidStateError:
        log.debug("a refusal (%s) was ready for a request that had been cancelled", refusal.code)


def _reply(
    policy: ServedPolicy, ticket: Ticket, prediction: Prediction, started: float, batch: int
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
        session=request.session,
        seq=request.seq,
        timestamp_ns=request.timestamp_ns,
    )
