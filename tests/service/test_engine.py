"""The engine: seeds, batches, deadlines, supersession, overload, draining, and errors kept apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from policy.errors import TinyVLAError
from policy.null import NullPolicy
from policy.observation import Observation, Prediction, SampleOptions
from policy.spec import PolicySpec
from service.engine import Engine
from service.warmup import warm_up
from service.wire.messages import ActReply, ActRequest

PATIENCE_S = 20.0


@pytest.fixture
def engine(held: Any) -> Iterator[Engine]:
    """An engine on the held policy, warm, with room for three."""
    made = Engine(queue_size=3, max_batch=8)
    made.start()
    warm_up(held, 8)
    made.install(held, activate=True)
    yield made
    held.go.set()
    assert made.drain(PATIENCE_S)


@pytest.fixture
def plain(request_: ActRequest) -> ActRequest:
    """The request without session and deadline."""
    return replace(request_, session=None, seq=None, deadline_ms=None)


def code_of(future: Any) -> str:
    error = future.exception(PATIENCE_S)
    assert isinstance(error, TinyVLAError), error
    return error.code


def with_seed(request: ActRequest, seed: int | None) -> ActRequest:
    return replace(request, options=replace(request.options, seed=seed))


def test_the_same_seed_gives_the_same_actions_whatever_shares_the_batch(
    engine: Engine, held: Any, plain: ActRequest
) -> None:
    first = engine.submit(with_seed(plain, 5))
    held.await_run()
    others = [engine.submit(with_seed(plain, seed)) for seed in (6, 5, 7)]
    held.go.set()
    alone, among = first.result(PATIENCE_S), others[1].result(PATIENCE_S)
    assert (alone.timing_ms.batch, among.timing_ms.batch) == (1, 3)
    np.testing.assert_array_equal(alone.actions, among.actions)
    assert not np.array_equal(alone.actions, others[0].result(PATIENCE_S).actions)


def test_a_seed_is_chosen_and_told_and_reproduces_the_chunk(
    engine: Engine, held: Any, plain: ActRequest
) -> None:
    held.go.set()
    drawn = engine.submit(with_seed(plain, None)).result(PATIENCE_S)
    again = engine.submit(with_seed(plain, drawn.seed)).result(PATIENCE_S)
    np.testing.assert_array_equal(drawn.actions, again.actions)


def test_only_requests_that_may_share_a_run_do(engine: Engine, held: Any, plain: ActRequest) -> None:
    blocker = engine.submit(plain)
    held.await_run()
    steps = [3, 4, 3]
    waiting = [engine.submit(replace(plain, options=replace(plain.options, ddim_steps=n))) for n in steps]
    held.go.set()
    replies = [future.result(PATIENCE_S) for future in [blocker, *waiting]]
    assert held.batches == [1, 2, 1]
    assert [reply.ddim_steps for reply in replies[1:]] == steps


def test_the_reply_echoes_the_request_and_tells_where_the_time_went(
    engine: Engine, held: Any, request_: ActRequest
) -> None:
    held.go.set()
    reply: ActReply = engine.submit(request_, decode_ms=1.5).result(PATIENCE_S)
    assert (reply.session, reply.seq, reply.timestamp_ns) == ("arm-1", 5, request_.timestamp_ns)
    assert reply.policy == held.spec.label
    assert (reply.horizon, reply.rate_hz) == (48, 80.0)
    assert reply.actions.shape == (48, 4)
    assert request_.options.prefix is not None
    np.testing.assert_array_equal(reply.actions[:2], request_.options.prefix)
    assert reply.uncertainty is not None
    assert reply.uncertainty.shape == (48,)
    timing = reply.timing_ms
    assert timing.decode == 1.5
    assert 0 <= timing.queue <= timing.total


def test_a_newer_observation_of_a_session_answers_the_waiting_older_one(
    engine: Engine, held: Any, plain: ActRequest
) -> None:
    blocker = engine.submit(plain)
    held.await_run()
    old = engine.submit(replace(plain, session="arm", seq=1))
    other = engine.submit(replace(plain, session="leg", seq=1))
    new = engine.submit(replace(plain, session="arm", seq=2))
    assert code_of(old) == "superseded"  # at once, while the run is still held
    held.go.set()
    assert [f.result(PATIENCE_S).seq for f in (other, new)] == [1, 2]
    assert blocker.result(PATIENCE_S)
    assert b"tinyvla_superseded_total 1.0" in engine.metrics.text()


def test_a_session_that_starts_over_leaves_nothing_waiting(
    engine: Engine, held: Any, plain: ActRequest
) -> None:
    engine.submit(plain)
    held.await_run()
    waiting = engine.submit(replace(plain, session="arm"))
    engine.forget_session("arm")
    assert code_of(waiting) == "superseded"


def test_overload_is_answered_at_once(engine: Engine, held: Any, plain: ActRequest) -> None:
    engine.submit(plain)
    held.await_run()
    waiting = [engine.submit(plain) for _ in range(3)]
    assert b"tinyvla_queue_depth 3.0" in engine.metrics.text()
    assert code_of(engine.submit(plain)) == "overloaded"
    held.go.set()
    assert all(future.result(PATIENCE_S) for future in waiting)


def test_a_fast_client_waits_for_its_own_requests_and_nobody_elses(
    engine: Engine, held: Any, plain: ActRequest
) -> None:
    engine.submit(plain)
    held.await_run()
    flood = [engine.submit(plain, client="fast") for _ in range(5)]
    assert [code_of(future) for future in flood[3:]] == ["overloaded"] * 2
    slow = engine.submit(plain, client="slow")
    assert code_of(flood[2]) == "overloaded"  # its newest gives way, at once
    held.go.set()
    assert slow.result(PATIENCE_S)
    assert all(future.result(PATIENCE_S) for future in flood[:2])


def test_a_batch_waits_for_company_when_told_to(held: Any, plain: ActRequest) -> None:
    engine = Engine(max_batch=2, max_wait_ms=3_600_000)  # an hour: only company ends it within this test
    engine.start()
    warm_up(held, 2)
    engine.install(held, activate=True)
    held.go.set()
    both = [engine.submit(plain), engine.submit(plain)]
    assert [future.result(PATIENCE_S).timing_ms.batch for future in both] == [2, 2]
    alone = engine.submit(plain)
    assert engine.drain(PATIENCE_S)  # the end does not wait for company either
    assert alone.result(0).timing_ms.batch == 1


def test_a_deadline_that_passed_before_queueing_costs_no_run(
    engine: Engine, held: Any, plain: ActRequest
) -> None:
    assert code_of(engine.submit(replace(plain, deadline_ms=50.0), arrived=0.0)) == "deadline_exceeded"
    assert held.batches == []
    assert b"tinyvla_deadline_missed_total 1.0" in engine.metrics.text()


def test_a_deadline_that_passes_in_the_queue_costs_no_run(
    engine: Engine, held: Any, plain: ActRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocker = engine.submit(plain)
    held.await_run()
    waiting = engine.submit(replace(plain, deadline_ms=3_600_000.0))
    import service.engine as module

    real = module.time.monotonic
    monkeypatch.setattr(module.time, "monotonic", lambda: real() + 7200)  # two hours go by
    held.go.set()
    assert code_of(waiting) == "deadline_exceeded"
    assert blocker.result(PATIENCE_S)
    assert held.batches == [1]


def test_a_request_cancelled_while_it_waits_costs_no_run(
    engine: Engine, held: Any, plain: ActRequest
) -> None:
    engine.submit(plain)
    held.await_run()
    cancelled, kept = engine.submit(plain), engine.submit(plain)
    assert cancelled.cancel()
    held.go.set()
    assert kept.result(PATIENCE_S).timing_ms.batch == 1


def test_draining_finishes_what_waits_and_refuses_what_comes(
    engine: Engine, held: Any, plain: ActRequest
) -> None:
    running = engine.submit(plain)
    held.await_run()
    waiting = engine.submit(plain)
    assert engine.drain(0.0) is False  # the run is held, so the grace time is over first
    assert code_of(engine.submit(plain)) == "not_ready"
    held.go.set()
    assert running.result(PATIENCE_S)
    assert waiting.result(PATIENCE_S)
    assert engine.drain(PATIENCE_S)


def test_readiness_drops_before_work_is_refused(engine: Engine, held: Any, plain: ActRequest) -> None:
    held.go.set()
    engine.retire()
    with pytest.raises(TinyVLAError, match="shutting down"):
        _ = engine.policy
    assert engine.submit(plain).result(PATIENCE_S)  # it had reached the server already


def test_a_request_keeps_the_policy_it_was_made_for_even_when_that_is_unloaded(
    engine: Engine, held: Any, plain: ActRequest, everything: PolicySpec
) -> None:
    unnamed = replace(plain, policy=None, expects=None)
    running = engine.submit(unnamed)
    held.await_run()
    waiting = engine.submit(unnamed)
    new = engine.install(NullPolicy(everything.model_copy(update={"name": "new"})), activate=True)
    engine.unload("null")
    after = engine.submit(unnamed)
    held.go.set()
    replies = [future.result(PATIENCE_S) for future in (running, waiting, after)]
    assert [reply.policy for reply in replies] == [held.spec.label, held.spec.label, new.label]
    assert [policy.label for policy in engine.policies] == [new.label]


def test_requests_for_different_policies_never_share_a_run(
    engine: Engine, held: Any, plain: ActRequest, everything: PolicySpec
) -> None:
    other = engine.install(NullPolicy(everything.model_copy(update={"name": "other"})), activate=False)
    engine.submit(plain)
    held.await_run()
    waiting = [engine.submit(plain), engine.submit(replace(plain, policy="other", expects=other.spec.hash))]
    held.go.set()
    assert [future.result(PATIENCE_S).timing_ms.batch for future in waiting] == [1, 1]


def test_the_metrics_tell_what_is_loaded_and_which_is_active(
    engine: Engine, held: Any, everything: PolicySpec
) -> None:
    other = engine.install(NullPolicy(everything.model_copy(update={"name": "other"})), activate=True)
    text = engine.metrics.text().decode()
    assert f'tinyvla_policy_active{{policy="{other.label}"}} 1.0' in text
    assert f'tinyvla_policy_active{{policy="{held.spec.label}"}} 0.0' in text
    engine.unload("null")
    assert held.spec.label not in engine.metrics.text().decode()


class _Faulty(NullPolicy):
    """Fails, or answers NaN, for the seed told."""

    def __init__(self, spec: PolicySpec, *, raises: int, answers_nan: int) -> None:
        super().__init__(spec)
        self._raises, self._nan = raises, answers_nan

    def predict(
        self, observations: Sequence[Observation], options: Sequence[SampleOptions]
    ) -> list[Prediction]:
        if any(option.seed == self._raises for option in options):
            raise RuntimeError("/secret/path is broken")
        return [
            replace(p, actions=p.actions * np.nan) if p.seed == self._nan else p
            for p in super().predict(observations, options)
        ]


def test_one_requests_trouble_stays_its_own_and_is_told_by_id_only(
    everything: PolicySpec, plain: ActRequest, caplog: pytest.LogCaptureFixture
) -> None:
    engine = Engine()
    engine.install(_Faulty(everything, raises=1, answers_nan=2), activate=True)
    # Queued before the engine runs, so that all four share the first batch.
    futures = [engine.submit(with_seed(plain, seed)) for seed in (1, 2, 3, 4)]
    engine.start()
    assert [code_of(f) for f in futures[:2]] == ["internal", "internal"]
    assert all(np.isfinite(f.result(PATIENCE_S).actions).all() for f in futures[2:])
    told = str(futures[0].exception())
    assert "secret" not in told
    reference = told.split()[-1]
    assert any(reference in record.getMessage() and record.exc_info for record in caplog.records)
    assert engine.drain(PATIENCE_S)


def test_before_there_is_a_policy_requests_are_not_ready_and_a_failed_load_is_told(plain: ActRequest) -> None:
    engine = Engine()
    engine.start()
    assert code_of(engine.submit(plain)) == "not_ready"
    engine.fail(TinyVLAError("contract_mismatch", "the golden pair is off"))
    with pytest.raises(TinyVLAError, match="golden pair"):
        engine.ready.result(PATIENCE_S)
    assert engine.drain(PATIENCE_S)


def test_the_policy_may_be_named_by_name_or_by_label(engine: Engine, held: Any, plain: ActRequest) -> None:
    held.go.set()
    for name in (None, "null", held.spec.label):
        assert engine.submit(replace(plain, policy=name)).result(PATIENCE_S)
    assert code_of(engine.submit(replace(plain, policy="null@000000000000"))) == "unknown_policy"
