"""From observations to chunks in physical units, with a backend that shows what it was given."""

from __future__ import annotations

import numpy as np
import pytest

from policy.loaded import LoadedPolicy, sensor_input
from policy.normalize import to_unit
from policy.observation import SampleOptions
from policy.spec import SamplerSpec
from policy.text import tokenize


@pytest.fixture
def backend(make_backend):
    return make_backend()


def test_the_network_is_given_what_training_gave_it(make_spec, make_observation, backend, force):
    spec = make_spec(cameras=("front", "side"), sensors=(force,))
    observation = make_observation(spec)
    LoadedPolicy(spec, backend).predict([observation], [SampleOptions()])
    images, tokens, state, window, mask = backend.encoded[0]
    # Cameras in the spec's order, whatever the order of the map.
    np.testing.assert_array_equal(images[0, 0], observation.images["front"])
    np.testing.assert_array_equal(images[0, 1], observation.images["side"])
    np.testing.assert_array_equal(tokens[0], tokenize(observation.instruction))
    np.testing.assert_array_equal(state[0], to_unit(observation.state, spec.normalization.state))
    np.testing.assert_allclose(window[0], (observation.sensors["force"] - 3.0) / 2.0, rtol=1e-6)
    np.testing.assert_array_equal(mask, np.ones((1, 8), np.float32))


def test_cameras_are_told_apart_by_name_and_not_by_order(make_spec, make_observation, make_backend):
    spec = make_spec(cameras=("front", "side"))
    observation = make_observation(spec)
    backwards = make_observation(spec, images=dict(reversed(observation.images.items())))
    found = []
    for seen in (observation, backwards):
        backend = make_backend()
        LoadedPolicy(spec, backend).predict([seen], [SampleOptions(seed=0)])
        found.append(backend.encoded[0][0])
    np.testing.assert_array_equal(*found)


def test_a_short_window_is_padded_in_front_and_masked(force):
    window = np.arange(6, dtype=np.float32).reshape(3, 2)
    padded, mask = sensor_input(force, window)
    np.testing.assert_array_equal(padded[5:], window)
    assert not padded[:5].any()
    assert mask.tolist() == [0, 0, 0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("window", [None, np.zeros((0, 2), np.float32)])
def test_an_absent_sensor_is_masked_altogether(force, window):
    padded, mask = sensor_input(force, window)
    assert padded.shape == (8, 2)
    assert not mask.any()


def test_padding_stays_zero_after_normalisation(make_spec, make_observation, backend, force):
    """Zero newton is not zero after standardising; the padding must not look like a measurement."""
    spec = make_spec(sensors=(force,))
    short = make_observation(spec, sensors={"force": np.ones((2, 2), np.float32)})
    LoadedPolicy(spec, backend).predict([short], [SampleOptions()])
    window = backend.encoded[0][3][0]
    assert not window[:6].any()
    np.testing.assert_allclose(window[6:], -1.0)


def test_actions_come_back_in_physical_units(make_spec, make_observation, make_backend):
    class Constant(make_backend):
        def denoise(self, chunk, timestep, prefix_length, context):
            return np.broadcast_to(np.float32([0.5, 0.5, -1.0]), chunk.shape)

    found = LoadedPolicy(make_spec(), Constant()).predict([make_observation(make_spec())], [SampleOptions()])[
        0
    ]
    np.testing.assert_allclose(found.actions, np.tile(np.float32([5.0, 3.0, -1.0]), (8, 1)), rtol=1e-6)


def test_actions_are_clipped_to_the_bounds_but_a_prefix_never(make_spec, make_observation, make_backend):
    bounds = {"low": (-1.0, 0.0, -1.0), "high": (1.0, 1.0, 1.0)}
    spec = make_spec()
    spec = make_spec(action=spec.action.model_copy(update=bounds))  # narrower than the data's range

    class Extreme(make_backend):
        def denoise(self, chunk, timestep, prefix_length, context):
            return np.full_like(chunk, 100.0)

    prefix = np.float32([[5.0, 3.0, 2.0]])
    (found,) = LoadedPolicy(spec, Extreme()).predict([make_observation(spec)], [SampleOptions(prefix=prefix)])
    np.testing.assert_array_equal(found.actions[:1], prefix)
    np.testing.assert_array_equal(found.actions[1:], np.ones((7, 3), np.float32))


@pytest.mark.parametrize("head", ["diffusion", "regression"])
def test_the_network_is_shown_a_prefix_within_the_range_as_in_training(
    make_spec, make_observation, backend, head
):
    spec = make_spec(head=head)
    prefix = np.float32([[25.0, 2.0, -1.0], [-10.0, -3.0, 0.5]])
    (found,) = LoadedPolicy(spec, backend).predict([make_observation(spec)], [SampleOptions(prefix=prefix)])
    for chunk, *_ in backend.denoised:
        np.testing.assert_allclose(chunk[0, :2], [[1.0, 0.0, -1.0], [-1.0, -1.0, 0.5]], atol=1e-6)
    np.testing.assert_array_equal(found.actions[:2], prefix)


def test_the_mean_of_several_samples_and_their_spread(make_spec, make_observation, make_backend):
    spec = make_spec()

    class Echo(make_backend):
        """Predicts its own noise, clipped: samples differ widely."""

        def denoise(self, chunk, timestep, prefix_length, context):
            self.denoised.append((chunk.copy(), timestep, prefix_length, context))
            return chunk

    backend = Echo()
    options = SampleOptions(samples=5, seed=3, ddim_steps=1)
    (found,) = LoadedPolicy(spec, backend).predict([make_observation(spec)], [options])
    drawn = np.clip(backend.denoised[0][0], -1, 1)
    assert drawn.shape == (5, 8, 3)
    expected = drawn.mean(0) * np.float32([10, 2, 1]) + np.float32([0, 2, 0])
    np.testing.assert_allclose(found.actions, expected, atol=1e-5)
    np.testing.assert_allclose(found.uncertainty, drawn.std(0).mean(-1), atol=1e-6)
    assert np.all(found.uncertainty > 0.05)


def test_a_committed_prefix_has_no_uncertainty(make_spec, make_observation, backend):
    prefix = np.zeros((2, 3), np.float32)
    options = SampleOptions(samples=4, prefix=prefix)
    (found,) = LoadedPolicy(make_spec(), backend).predict([make_observation(make_spec())], [options])
    np.testing.assert_array_equal(found.uncertainty[:2], 0.0)
    assert np.all(found.uncertainty[2:] > 0)


def test_the_first_of_several_samples_is_the_one_drawn_alone(make_spec, make_observation, make_backend):
    noises = []
    for samples in (1, 3):
        backend = make_backend()
        LoadedPolicy(make_spec(), backend).predict(
            [make_observation(make_spec())], [SampleOptions(samples=samples, seed=9)]
        )
        noises.append(backend.denoised[0][0])
    np.testing.assert_array_equal(noises[0][0], noises[1][0])
    assert np.abs(noises[1][0] - noises[1][1]).max() > 0.1


def test_one_chunk_is_drawn_at_the_policys_temperature_and_several_at_full_noise(
    make_spec, make_observation, make_backend
):
    spec = make_spec(sampler=SamplerSpec(train_steps=100, default_steps=3, temperature=0.0))
    backend = make_backend()
    options = [SampleOptions(samples=samples, seed=9) for samples in (1, 3)]
    one, several = LoadedPolicy(spec, backend).predict([make_observation(spec)] * 2, options)
    started = backend.denoised[0][0]
    assert not started[0].any()
    assert all(started[row].any() for row in (1, 2, 3))
    assert one.uncertainty is None
    assert np.all(several.uncertainty > 0)


def test_each_request_gets_its_own_samples_back(make_spec, make_observation, make_backend):
    """Batches of mixed sample counts: nobody gets a neighbour's chunk."""
    spec = make_spec()
    counts = (2, 1, 3, 1)
    observations = [make_observation(spec, seed=i) for i in range(4)]
    options = [SampleOptions(samples=n, seed=10 + i) for i, n in enumerate(counts)]
    together = LoadedPolicy(spec, make_backend()).predict(observations, options)
    for observation, option, shared in zip(observations, options, together, strict=True):
        alone = LoadedPolicy(spec, make_backend()).predict([observation], [option])[0]
        np.testing.assert_allclose(shared.actions, alone.actions, atol=1e-5)
        assert (shared.uncertainty is None) == (option.samples == 1)


def test_the_encoder_runs_once_however_many_steps_and_samples(make_spec, make_observation, backend):
    options = SampleOptions(samples=8, ddim_steps=20)
    (found,) = LoadedPolicy(make_spec(), backend).predict([make_observation(make_spec())], [options])
    assert len(backend.encoded) == 1
    assert len(backend.encoded[0][0]) == 1
    assert len(backend.denoised) == 20
    assert found.encode_ms >= 0
    assert found.sample_ms >= 0
