"""Vision at its own rate: reused per session while young enough, never across texts, resets, swaps or sessions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from policy.null import NullPolicy
from policy.observation import Observation, Prediction, SampleOptions
from policy.spec import PolicySpec
from service.engine import Engine
from service.feature_cache import FeatureCache, Seen
from service.wire.messages import ActReply, ActRequest

PATIENCE_S = 20.0


class SeeingPolicy(NullPolicy):
    """Its features are the first pixel, and its first action tells which features it was given."""

    reuses_features = True

    def __init__(self, spec: PolicySpec) -> None:
        super().__init__(spec)
        self.looked = 0

    def predict(
        self,
        observations: Sequence[Observation],
        options: Sequence[SampleOptions],
        features: Sequence[np.ndarray | None] | None = None,
    ) -> list[Prediction]:
        drawn = super().predict(observations, options)
        given = features or [None] * len(drawn)
        self.looked += sum(known is None for known in given)
        seen = [
            np.float32([o.images["corner4"][0, 0, 0]]) if known is None else known
            for o, known in zip(observations, given, strict=True)
        ]
        return [
            replace(p, actions=np.full_like(p.actions, s[0]), features=s)
            for p, s in zip(drawn, seen, strict=True)
        ]


@pytest.fixture
def seeing(everything: PolicySpec) -> SeeingPolicy:
    return SeeingPolicy(everything)


@pytest.fixture
def engine(seeing: SeeingPolicy) -> Iterator[Engine]:
    made = Engine()
    made.start()
    made.install(seeing, activate=True)
    yield made
    assert made.drain(PATIENCE_S)


@pytest.fixture
def ask(engine: Engine, request_: ActRequest) -> Any:
    """(brightness of the picture, arrival in s, changes to the request) -> reply."""

    def act(brightness: int, at: float, **changes: Any) -> ActReply:
        fields = {"prefix": None, "samples": 1}
        observation = request_.observation
        images = {name: np.full_like(image, brightness) for name, image in observation.images.items()}
        text = changes.pop("instruction", observation.instruction)
        request = replace(
            request_,
            observation=replace(observation, images=images, instruction=text),
            options=replace(request_.options, **fields),
            **{"deadline_ms": None, "session": "arm", "seq": None, "vl_max_age_ms": 200.0, **changes},
        )
        return engine.submit(request, arrived=at).result(PATIENCE_S)

    return act


def seen_in(reply: ActReply) -> float:
    return float(reply.actions[0, 0])


def test_features_are_reused_while_young_enough_and_their_age_is_told(ask: Any, seeing: SeeingPolicy) -> None:
    replies = [
        ask(brightness, at) for brightness, at in ((10, 0.0), (20, 0.1), (30, 0.2), (40, 0.25), (50, 0.3))
    ]
    assert [seen_in(reply) for reply in replies] == [10, 10, 10, 40, 40]
    assert [reply.vl_age_ms for reply in replies] == pytest.approx([0, 100, 200, 0, 50])
    assert seeing.looked == 2


def test_who_does_not_ask_for_reuse_gets_none_and_is_told_no_age(ask: Any) -> None:
    ask(10, 0.0)
    plain = ask(20, 0.1, vl_max_age_ms=None)
    assert (seen_in(plain), plain.vl_age_ms) == (20, None)
    assert seen_in(ask(30, 0.1)) == 10  # and it did not replace what was kept


def test_an_age_of_zero_looks_at_every_image(ask: Any) -> None:
    assert [seen_in(ask(b, b / 100, vl_max_age_ms=0.0)) for b in (10, 20)] == [10, 20]


def test_another_instruction_needs_another_look(ask: Any) -> None:
    ask(10, 0.0)
    assert seen_in(ask(20, 0.1, instruction="push the puck")) == 20


def test_sessions_do_not_see_through_each_others_eyes(ask: Any) -> None:
    ask(10, 0.0)
    assert seen_in(ask(20, 0.1, session="leg")) == 20
    nameless = [ask(b, 0.1, session=None) for b in (30, 40)]
    assert [(seen_in(reply), reply.vl_age_ms) for reply in nameless] == [(30, 0), (40, 0)]


def test_a_session_that_starts_over_looks_again(ask: Any, engine: Engine) -> None:
    ask(10, 0.0)
    engine.forget_session("arm")
    assert seen_in(ask(20, 0.1)) == 20


@pytest.mark.parametrize("loaded", [False, True], ids=["activated", "loaded again"])
def test_a_swap_and_back_looks_again(ask: Any, engine: Engine, everything: PolicySpec, loaded: bool) -> None:
    ask(10, 0.0)
    first = engine.policy.label
    other = everything.model_copy(update={"name": "other"})
    engine.install(SeeingPolicy(other), activate=True)
    assert seen_in(ask(20, 0.05, policy=None, expects=other.hash)) == 20
    if loaded:
        engine.install(SeeingPolicy(everything), activate=True)
    else:
        engine.activate(first)
    assert seen_in(ask(30, 0.1)) == 30


def test_a_policy_that_cannot_reuse_looks_every_time_and_says_so(
    request_: ActRequest, everything: PolicySpec
) -> None:
    engine = Engine()
    engine.start()
    assert engine.install(NullPolicy(everything), activate=True).reuses_features is False
    for at in (0.0, 0.1):
        request = replace(request_, deadline_ms=None)
        assert engine.submit(request, arrived=at).result(PATIENCE_S).vl_age_ms == 0.0
    assert engine.drain(PATIENCE_S)


def test_a_run_that_began_before_a_reset_leaves_nothing_to_the_next_episode() -> None:
    cache = FeatureCache()
    slot = cache.slot("arm")
    cache.forget("arm", 1.0)  # while the run is under way
    cache.fill(slot, Seen(np.zeros(4, np.float32), "go", 0.0))
    assert cache.slot("arm").seen is None


def test_neither_does_a_request_that_was_still_being_decoded() -> None:
    cache = FeatureCache()
    cache.slot("arm")
    cache.forget("arm", 1.0)
    cache.fill(cache.slot("arm"), Seen(np.zeros(4, np.float32), "go", 0.9))
    assert cache.slot("arm").seen is None
    cache.fill(cache.slot("arm"), Seen(np.zeros(4, np.float32), "go", 1.1))
    assert cache.slot("arm").seen is not None


def test_memory_is_bounded_and_the_session_away_longest_goes_first() -> None:
    features = np.zeros(1000, np.float32)
    cache = FeatureCache(max_bytes=3 * 4600)
    for name in ("a", "b", "c", "a", "d"):
        cache.fill(cache.slot(name), Seen(features, "go", 0.0))
    kept = {name for name in "abcd" if cache.slot(name).seen is not None}
    assert kept == {"a", "c", "d"}


def test_features_are_kept_without_the_batch_they_came_in() -> None:
    cache, batch = FeatureCache(), np.ones((64, 8), np.float32)
    cache.fill(cache.slot("arm"), Seen(batch[3], "go", 0.0))
    seen = cache.slot("arm").seen
    assert seen is not None
    assert seen.features.base is None
