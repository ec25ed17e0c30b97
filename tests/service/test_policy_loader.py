"""Loading beside serving: together or not at all, off the engine's thread, and refused without harm."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from policy.errors import TinyVLAError, UsageError
from policy.null import NullPolicy
from policy.spec import PolicySpec
from service.engine import Engine
from service.policy_loader import Load, PolicyLoader, load_refusal
from service.wire.messages import ActRequest

PATIENCE_S = 20.0


@pytest.fixture
def engine() -> Iterator[Engine]:
    made = Engine()
    made.start()
    yield made
    assert made.drain(PATIENCE_S)


@pytest.fixture
def loader(engine: Engine) -> Iterator[PolicyLoader]:
    made = PolicyLoader(engine, max_batch=4)
    made.start()
    yield made
    made.close(PATIENCE_S)


@pytest.fixture
def maker(everything: PolicySpec) -> Callable[[str], Callable[[], NullPolicy]]:
    return lambda name: lambda: NullPolicy(everything.model_copy(update={"name": name}))


def broken() -> NullPolicy:
    raise UsageError("b: encode.onnx is not the file that was exported (SHA-256 differs)")


def test_several_are_there_at_once_and_the_active_one_answers(
    loader: PolicyLoader, engine: Engine, maker: Any, request_: ActRequest
) -> None:
    loads = [Load(maker("a"), activate=True), Load(maker("b"), "bundles/b")]
    a, b = loader.load(*loads).result(PATIENCE_S)
    assert engine.ready.result(0) == a
    assert [policy.label for policy in engine.policies] == [a.label, b.label]
    assert b.source == "bundles/b"
    for name, served in ((None, a), ("a", a), ("b", b), (b.label, b)):
        request = replace(request_, policy=name, expects=served.spec.hash, session=None)
        assert engine.submit(request).result(PATIENCE_S).policy == served.label


def test_one_that_does_not_pass_keeps_the_others_of_its_job_out_and_what_is_served_in(
    loader: PolicyLoader, engine: Engine, maker: Any
) -> None:
    (old,) = loader.load(Load(maker("a"))).result(PATIENCE_S)
    failed = loader.load(Load(maker("c"), activate=True), Load(broken, activate=True))
    with pytest.raises(UsageError, match="SHA-256"):
        failed.result(PATIENCE_S)
    assert (engine.policy, engine.policies) == (old, [old])
    assert loader.load(Load(maker("c"))).result(PATIENCE_S)  # and the loader goes on
    text = engine.metrics.text()
    assert b'tinyvla_policy_loads_total{outcome="refused"} 1.0' in text
    assert b'tinyvla_policy_loads_total{outcome="ok"} 2.0' in text


def test_who_asked_for_a_bundle_that_does_not_pass_is_told_a_stable_code() -> None:
    refusal = load_refusal(UsageError("b: encode.onnx is not the file that was exported"))
    assert (refusal.code, refusal.field) == ("contract_mismatch", "bundle")
    assert "encode.onnx" in refusal.detail
    unforeseen = load_refusal(RuntimeError("/secret/path"))
    assert unforeseen.code == "internal"
    assert "secret" not in unforeseen.detail


def test_requests_are_answered_while_a_policy_loads(
    loader: PolicyLoader, engine: Engine, maker: Any, request_: ActRequest
) -> None:
    loader.load(Load(maker("a"))).result(PATIENCE_S)
    begun, go = threading.Event(), threading.Event()

    def slow() -> NullPolicy:
        begun.set()
        assert go.wait(PATIENCE_S)
        return maker("b")()

    loading = loader.load(Load(slow, activate=True))
    assert begun.wait(PATIENCE_S)
    plain = replace(request_, policy=None, expects=None)
    assert engine.submit(plain).result(PATIENCE_S).policy.startswith("a@")
    go.set()
    loading.result(PATIENCE_S)
    assert engine.submit(plain).result(PATIENCE_S).policy.startswith("b@")


def test_a_policy_is_warm_before_it_is_served(
    loader: PolicyLoader, engine: Engine, everything: PolicySpec
) -> None:
    served_at_first_run: list[int] = []

    class Watching(NullPolicy):
        def predict(self, *arguments: Any) -> Any:
            served_at_first_run.append(len(engine.policies))
            return super().predict(*arguments)

    loader.load(Load(lambda: Watching(everything))).result(PATIENCE_S)
    assert served_at_first_run == [0]


def test_the_same_policy_is_not_kept_twice(loader: PolicyLoader, engine: Engine, maker: Any) -> None:
    (first,) = loader.load(Load(maker("a"), "here")).result(PATIENCE_S)
    loader.load(Load(maker("b"), activate=True)).result(PATIENCE_S)
    (again,) = loader.load(Load(maker("a"), "there", activate=True)).result(PATIENCE_S)
    assert again is first
    assert engine.policy is first
    assert len(engine.policies) == 2


def test_an_unloaded_policy_is_freed_at_once(
    loader: PolicyLoader, engine: Engine, maker: Any, request_: ActRequest
) -> None:
    gone = threading.Event()

    def make() -> NullPolicy:
        policy = maker("a")()
        weakref.finalize(policy, gone.set)
        return policy  # type: ignore[no-any-return]

    gc.disable()  # nobody may have to look for cycles
    try:
        loader.load(Load(make, activate=True)).result(PATIENCE_S)
        assert engine.submit(replace(request_, policy=None, expects=None)).result(PATIENCE_S)
        loader.load(Load(maker("b"), activate=True)).result(PATIENCE_S)
        assert not gone.is_set()
        engine.unload("a")
        assert gone.wait(PATIENCE_S)
    finally:
        gc.enable()


def test_too_many_loads_are_refused_at_once(loader: PolicyLoader, maker: Any) -> None:
    go = threading.Event()
    jobs = [loader.load(Load(lambda: maker("a")() if go.wait(PATIENCE_S) else maker("b")()))]
    with pytest.raises(TinyVLAError, match="loads wait already") as refusal:
        jobs += [loader.load(Load(maker("a"))) for _ in range(20)]
    assert refusal.value.code == "overloaded"
    go.set()


def test_at_the_end_loads_that_have_not_begun_are_refused(
    loader: PolicyLoader, engine: Engine, maker: Any
) -> None:
    begun, go = threading.Event(), threading.Event()

    def slow() -> NullPolicy:
        begun.set()
        assert go.wait(PATIENCE_S)
        return maker("a")()

    running, waiting = loader.load(Load(slow)), loader.load(Load(maker("b")))
    assert begun.wait(PATIENCE_S)
    loader.close(0.0)
    go.set()
    assert running.result(PATIENCE_S)
    assert isinstance(waiting.exception(PATIENCE_S), TinyVLAError)
    with pytest.raises(TinyVLAError, match="shutting down"):
        loader.load(Load(maker("c")))
