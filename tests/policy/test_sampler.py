"""Drawing chunks: committed actions come back, a chunk depends on its own generator, steps are counted."""

from __future__ import annotations

import numpy as np
import pytest

from policy.sampler import draw_chunks
from policy.schedule import alphas_cumprod
from policy.spec import SamplerSpec

HORIZON, DIM = 6, 2
TWENTY = SamplerSpec(train_steps=20)


def network(chunk: np.ndarray, timestep: np.ndarray, prefix_length: np.ndarray) -> np.ndarray:
    """Mixes the actions of a chunk, as attention does, and sees timestep and prefix length."""
    mixed = chunk.mean(1, keepdims=True) + 0.3 * chunk
    return np.tanh(mixed + 0.01 * timestep[:, None, None] + 0.1 * prefix_length[:, None, None]).astype(
        np.float32
    )


def draw(seeds, prefixes=None, *, denoise=network, sampler=TWENTY, kind="ddim", steps=4):
    rngs = [np.random.default_rng(seed) for seed in seeds]
    prefixes = prefixes or [None] * len(seeds)
    return draw_chunks(denoise, sampler, kind, steps, rngs, prefixes, HORIZON, DIM)


PREFIX = np.float32([[0.1, -0.2], [0.3, 0.4]])
HEADS = pytest.mark.parametrize(
    ("sampler", "kind"),
    [
        (SamplerSpec(train_steps=20), "ddim"),
        (SamplerSpec(train_steps=20), "ddpm"),
        (SamplerSpec(train_steps=20, prediction_type="epsilon"), "ddim"),
        (None, "ddim"),
    ],
)


@HEADS
def test_committed_actions_come_back_unchanged_to_the_bit(sampler, kind):
    chunks = draw([0, 1], [PREFIX, None], sampler=sampler, kind=kind)
    np.testing.assert_array_equal(chunks[0, :2], PREFIX)
    assert chunks.dtype == np.float32
    assert chunks.shape == (2, HORIZON, DIM)


def test_a_prefix_outside_the_trained_range_is_not_clipped_either():
    far = np.float32([[3.0, -2.5]])
    np.testing.assert_array_equal(draw([0], [far])[0, :1], far)


@HEADS
def test_a_chunk_does_not_depend_on_what_shares_the_batch(sampler, kind):
    alone = draw([7], [PREFIX], sampler=sampler, kind=kind)[0]
    together = draw([3, 7, 9], [None, PREFIX, PREFIX[:1]], sampler=sampler, kind=kind)[1]
    np.testing.assert_array_equal(alone, together)


@pytest.mark.parametrize("kind", ["ddim", "ddpm"])
def test_the_same_generator_draws_the_same_chunk_and_another_one_another(kind):
    first, again, other = draw([5], kind=kind), draw([5], kind=kind), draw([6], kind=kind)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3


@pytest.mark.parametrize(
    ("sampler", "kind", "steps", "calls"),
    [
        (SamplerSpec(train_steps=20), "ddim", 1, 1),
        (SamplerSpec(train_steps=20), "ddim", 20, 20),
        (SamplerSpec(train_steps=20), "ddpm", 3, 20),
        (None, "ddim", 10, 1),
    ],
)
def test_the_network_is_called_once_per_step(sampler, kind, steps, calls):
    timesteps = []

    def counted(chunk, timestep, prefix_length):
        timesteps.append(int(timestep[0]))
        return network(chunk, timestep, prefix_length)

    draw([0], denoise=counted, sampler=sampler, kind=kind, steps=steps)
    assert len(timesteps) == calls
    assert timesteps == sorted(timesteps, reverse=True)
    assert timesteps[0] == (19 if sampler else 0)


def test_the_network_sees_the_committed_actions_clean_at_every_step():
    seen = []

    def watched(chunk, timestep, prefix_length):
        seen.append((chunk[0].copy(), int(prefix_length[0])))
        return network(chunk, timestep, prefix_length)

    draw([0], [PREFIX], denoise=watched, kind="ddpm")
    for chunk, length in seen:
        np.testing.assert_array_equal(chunk[:2], PREFIX)
        assert length == 2


def test_noise_drawn_where_actions_are_committed_has_no_influence():
    class Altered:
        """The generator of seed 0, but for what it draws at the committed positions."""

        def __init__(self, offset: float) -> None:
            self.rng, self.offset = np.random.default_rng(0), np.float32(offset)

        def standard_normal(self, shape, dtype):
            noise = self.rng.standard_normal(shape, dtype=dtype)
            noise[: len(PREFIX)] += self.offset
            return noise

    chunks = [
        draw_chunks(network, SamplerSpec(train_steps=20), "ddpm", 4, [Altered(by)], [PREFIX], HORIZON, DIM)
        for by in (0.0, 100.0)
    ]
    np.testing.assert_array_equal(*chunks)


def test_a_regression_head_is_asked_with_an_empty_chunk():
    asked = []

    def watched(chunk, timestep, prefix_length):
        asked.append(chunk.copy())
        return network(chunk, timestep, prefix_length)

    draw([0], [PREFIX], denoise=watched, sampler=None)
    np.testing.assert_array_equal(asked[0][0, 2:], 0.0)
    np.testing.assert_array_equal(asked[0][0, :2], PREFIX)


def test_a_perfect_network_is_sampled_exactly():
    """An oracle that always names the clean chunk leads there, whatever the step count and sampler."""
    clean = np.random.default_rng(3).uniform(-0.9, 0.9, (1, HORIZON, DIM)).astype(np.float32)
    for kind, steps in (("ddim", 1), ("ddim", 7), ("ddpm", 1)):
        found = draw([0], denoise=lambda chunk, timestep, length: clean, kind=kind, steps=steps)
        np.testing.assert_allclose(found, clean, atol=1e-6)


def test_temperature_scales_the_noise_of_each_chunk_alone():
    started = []

    def watch(chunk, timestep, prefix_length):
        started.append(chunk.copy())
        return network(chunk, timestep, prefix_length)

    rngs = [np.random.default_rng(seed) for seed in (1, 1, 1)]
    draw_chunks(watch, TWENTY, "ddim", 4, rngs, [None] * 3, HORIZON, DIM, [1.0, 0.5, 0.0])
    np.testing.assert_array_equal(started[0][1], np.float32(0.5) * started[0][0])
    assert started[0][0].any()
    assert not started[0][2].any()


@pytest.mark.parametrize("kind", ["ddim", "ddpm"])
def test_at_temperature_zero_the_seed_makes_no_difference(kind):
    rngs = [np.random.default_rng(seed) for seed in (1, 2)]
    cold = draw_chunks(network, TWENTY, kind, 4, rngs, [None] * 2, HORIZON, DIM, [0.0, 0.0])
    np.testing.assert_array_equal(cold[0], cold[1])


@pytest.mark.parametrize("wrong", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("spec", [SamplerSpec(train_steps=10), None], ids=["diffusion", "regression"])
def test_what_is_no_number_stays_none_and_spoils_no_other_chunk(spec, wrong):
    def denoise(chunk, timestep, lengths):
        output = np.zeros_like(chunk)
        output[1, 2, 0] = wrong
        return output

    rngs = [np.random.default_rng(row) for row in range(2)]
    drawn = draw_chunks(denoise, spec, "ddim", 3, rngs, [None, None], 8, 2)
    assert np.isfinite(drawn[0]).all()
    assert np.isnan(drawn[1]).any()  # a bound would have made full speed of infinity


def test_from_no_noise_the_majority_is_followed_given_some_steps_and_one_or_two_average():
    """With the exact denoiser of demonstrations of which a share goes to 0.6 and the rest to -0.6."""
    alphas = alphas_cumprod(100)

    def went(share: float, steps: int) -> float:
        def denoise(chunk, timestep, lengths):
            alpha = alphas[timestep][:, None, None]
            odds = np.log(share / (1 - share)) + 2 * np.sqrt(alpha) * 0.6 * chunk / (1 - alpha)
            return (0.6 * np.tanh(odds / 2)).astype(np.float32)

        rng = [np.random.default_rng(0)]
        return float(draw_chunks(denoise, SamplerSpec(), "ddim", steps, rng, [None], 1, 1, [0.0])[0, 0, 0])

    assert went(0.55, 10) == pytest.approx(0.6, abs=0.02)
    assert went(0.45, 10) == pytest.approx(-0.6, abs=0.02)
    assert went(0.55, 1) == pytest.approx(0.06, abs=0.01)  # the mean, as regression
    assert abs(went(0.52, 2)) < 0.45
    assert went(0.5, 10) == pytest.approx(0.0, abs=1e-6)  # nothing decides
