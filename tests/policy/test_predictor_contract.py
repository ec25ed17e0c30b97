"""Every predictor keeps the same promises, the one without a network included."""

from __future__ import annotations

import numpy as np
import pytest

from policy.errors import TinyVLAError
from policy.loaded import LoadedPolicy
from policy.null import NullPolicy
from policy.observation import SampleOptions
from policy.predictor import batch_key


@pytest.fixture(params=["null", "loaded", "loaded split", "null regression", "loaded regression"])
def policy(request, make_spec, make_backend):
    spec = make_spec(head="regression") if "regression" in request.param else make_spec()
    if "null" in request.param:
        return NullPolicy(spec)
    return LoadedPolicy(spec, make_backend(splits="split" in request.param))


def predict(policy, make_observation, *options):
    return policy.predict([make_observation(policy.spec, seed=i) for i in range(len(options))], list(options))


def test_a_chunk_has_the_shape_and_bounds_of_the_contract(policy, make_observation):
    (found,) = predict(policy, make_observation, SampleOptions())
    assert found.actions.shape == (8, 3)
    assert found.actions.dtype == np.float32
    assert np.all(found.actions >= np.float32(policy.spec.action.low))
    assert np.all(found.actions <= np.float32(policy.spec.action.high))


def test_the_same_seed_gives_the_same_actions_whatever_shares_the_run(policy, make_observation):
    options = SampleOptions(seed=5)
    observation = make_observation(policy.spec, seed=1)
    alone = policy.predict([observation], [options])[0]
    shared = predict(policy, make_observation, SampleOptions(seed=1, samples=3), options, SampleOptions())[1]
    np.testing.assert_allclose(alone.actions, shared.actions, atol=1e-5)
    assert shared.seed == 5


def test_a_seed_is_chosen_and_told_where_none_was_given(policy, make_observation):
    first, second = predict(policy, make_observation, SampleOptions(), SampleOptions())
    assert first.seed != second.seed
    again = predict(policy, make_observation, SampleOptions(seed=first.seed))[0]
    np.testing.assert_allclose(again.actions, first.actions, atol=1e-5)


def test_the_prefix_is_the_start_of_the_chunk_to_the_bit(policy, make_observation):
    # One third of these is not representable in float32: a round trip through normalisation would show.
    prefix = np.random.default_rng(0).uniform(-1, 1, (3, 3)).astype(np.float32) * 7
    (found,) = predict(policy, make_observation, SampleOptions(prefix=prefix, samples=2))
    np.testing.assert_array_equal(found.actions[:3], prefix)


def test_several_samples_come_with_their_spread(policy, make_observation):
    one, many = (predict(policy, make_observation, SampleOptions(samples=n, seed=0))[0] for n in (1, 4))
    assert one.uncertainty is None
    assert many.uncertainty.shape == (8,)
    assert many.uncertainty.dtype == np.float32
    assert np.all(many.uncertainty >= 0)


def test_the_reply_tells_the_steps_really_made(policy, make_observation):
    def steps(**options):
        return predict(policy, make_observation, SampleOptions(**options))[0].ddim_steps

    if policy.spec.sampler is None:
        assert [steps(), steps(ddim_steps=7), steps(sampler="ddpm")] == [1, 1, 1]
    else:
        assert [steps(), steps(ddim_steps=7), steps(sampler="ddpm", ddim_steps=7)] == [3, 7, 100]


def test_what_does_not_fit_the_contract_is_refused_before_it_runs(policy, make_observation):
    bad = make_observation(policy.spec, state=np.zeros(5, np.float32))
    with pytest.raises(TinyVLAError) as caught:
        policy.predict([make_observation(policy.spec), bad], [SampleOptions(), SampleOptions()])
    assert caught.value.field == "state"
    with pytest.raises(TinyVLAError):
        policy.predict([make_observation(policy.spec)], [SampleOptions(samples=99)])


def test_one_option_per_observation(policy, make_observation):
    with pytest.raises(ValueError, match="argument 2"):
        policy.predict([make_observation(policy.spec)], [])


def test_requests_share_a_run_when_they_take_the_same_steps(make_spec):
    spec = make_spec()
    default = batch_key(spec, SampleOptions())
    assert batch_key(spec, SampleOptions(ddim_steps=3, seed=4, samples=2)) == default  # 3 is the default
    assert batch_key(spec, SampleOptions(ddim_steps=4)) != default
    assert batch_key(spec, SampleOptions(sampler="ddpm")) != default
    assert batch_key(spec, SampleOptions(sampler="ddpm", ddim_steps=4)) == batch_key(
        spec, SampleOptions(sampler="ddpm")
    )
    regression = make_spec(head="regression")
    assert batch_key(regression, SampleOptions(ddim_steps=4)) == batch_key(regression, SampleOptions())


def test_a_run_of_unequal_step_counts_is_a_mistake_of_the_caller(make_spec, make_backend, make_observation):
    policy = LoadedPolicy(make_spec(), make_backend())
    with pytest.raises(ValueError, match="batch_key"):
        predict(policy, make_observation, SampleOptions(ddim_steps=2), SampleOptions(ddim_steps=3))
