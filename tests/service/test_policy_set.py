"""Which policy a request means, and which changes of the set are refused."""

from __future__ import annotations

import pytest

from policy.errors import TinyVLAError
from policy.null import NullPolicy, null_spec
from service.policy_set import PolicySet, Resident, ServedPolicy


def resident(name: str, horizon: int = 48) -> Resident:
    spec = null_spec(horizon=horizon).model_copy(update={"name": name})
    predictor = NullPolicy(spec)
    return Resident(ServedPolicy.of(predictor), predictor)


def code(action: object) -> str:
    with pytest.raises(TinyVLAError) as refusal:
        action()  # type: ignore[operator]
    return refusal.value.code


def test_the_first_policy_becomes_active_and_others_only_when_asked() -> None:
    first, second, third = resident("a"), resident("b"), resident("c")
    loaded = PolicySet().with_policy(first, activate=False).with_policy(second, activate=False)
    assert loaded.named(None) is first
    assert loaded.with_policy(third, activate=True).named(None) is third
    assert loaded.activated(second).named(None) is second


def test_a_name_means_the_active_policy_of_that_name_and_then_the_newest() -> None:
    old, new, newest = (resident("a", horizon) for horizon in (48, 64, 80))
    other = resident("b")
    loaded = PolicySet((old, new, newest, other), active=new)
    assert loaded.named("a") is new
    assert loaded.activated(other).named("a") is newest
    assert loaded.named(old.policy.label) is old


def test_what_is_not_loaded_is_unknown_and_nothing_at_all_is_not_ready() -> None:
    loaded = PolicySet().with_policy(resident("a"), activate=True)
    assert code(lambda: loaded.named("b")) == "unknown_policy"
    assert code(lambda: PolicySet().named("b")) == "not_ready"
    assert code(lambda: PolicySet().named(None)) == "not_ready"


def test_a_change_never_guesses_between_policies_of_one_name() -> None:
    old, new = resident("a", 48), resident("a", 64)
    loaded = PolicySet((old, new), active=new)
    with pytest.raises(TinyVLAError, match="2 policies are named 'a'") as refusal:
        loaded.one("a")
    assert old.policy.label in (refusal.value.expected or "")
    assert loaded.one(old.policy.label) is old


def test_the_active_policy_stays() -> None:
    first, second = resident("a"), resident("b")
    loaded = PolicySet((first, second), active=first)
    assert code(lambda: loaded.without(first)) == "forbidden"
    assert loaded.without(second).residents == (first,)


@pytest.mark.parametrize("length", [12, 30, 64])
def test_a_client_may_expect_a_hash_or_the_start_of_it(length: int) -> None:
    policy = resident("a").policy
    policy.check_expected(policy.spec.hash[:length].upper())
    policy.check_expected(None)
    other = resident("b").policy.spec.hash[:length]
    assert code(lambda: policy.check_expected(other)) == "contract_mismatch"
    assert code(lambda: policy.check_expected(policy.spec.hash[:11])) == "malformed"
    assert code(lambda: policy.check_expected(policy.spec.hash + "0")) == "contract_mismatch"
