"""The schedule agrees with diffusers' schedulers, coefficient by coefficient and step by step."""

from __future__ import annotations

import itertools

import diffusers
import numpy as np
import pytest
import torch

from policy.schedule import alphas_cumprod, ddim_timesteps, plan, x0_coefficients

TYPES = ("sample", "epsilon", "v_prediction")
STEPS = (1, 2, 5, 10, 33, 100)
COMMON = {
    "num_train_timesteps": 100, "beta_schedule": "squaredcos_cap_v2", "clip_sample": True,
    "clip_sample_range": 1.0, "timestep_spacing": "trailing",
}  # fmt: skip


def in_double_precision(scheduler):
    """Its schedule rebuilt from its own betas: updates divide by small differences of these."""
    betas = diffusers.schedulers.scheduling_ddpm.betas_for_alpha_bar(100).double()
    scheduler.betas, scheduler.alphas = betas, 1 - betas
    scheduler.alphas_cumprod = torch.cumprod(scheduler.alphas, 0)
    scheduler.one = torch.tensor(1.0, dtype=torch.float64)
    return scheduler


def ddim(prediction_type: str):
    return in_double_precision(
        diffusers.DDIMScheduler(prediction_type=prediction_type, set_alpha_to_one=True, **COMMON)
    )


def ddpm(prediction_type: str):
    return in_double_precision(
        diffusers.DDPMScheduler(prediction_type=prediction_type, variance_type="fixed_small", **COMMON)
    )


@pytest.mark.parametrize("train_steps", [10, 100, 1000])
def test_the_noise_schedule_is_diffusers_squaredcos_cap_v2(train_steps):
    theirs = diffusers.DDIMScheduler(num_train_timesteps=train_steps, beta_schedule="squaredcos_cap_v2")
    np.testing.assert_allclose(alphas_cumprod(train_steps), theirs.alphas_cumprod.numpy(), atol=1e-6)


@pytest.mark.parametrize("steps", STEPS)
def test_timesteps_are_diffusers_trailing_ones(steps):
    theirs = ddim("sample")
    theirs.set_timesteps(steps)
    assert ddim_timesteps(100, steps).tolist() == theirs.timesteps.tolist()


@pytest.mark.parametrize("train_steps", [1, 7, 50, 100])
def test_sampling_starts_from_the_noisiest_level_for_every_step_count(train_steps):
    for steps in range(1, train_steps + 1):
        found = ddim_timesteps(train_steps, steps)
        assert found[0] == train_steps - 1
        assert len(found) == steps
        assert np.all(np.diff(found) < 0)
        assert found[-1] >= 0


@pytest.mark.parametrize("steps", [0, -1, 101])
def test_a_step_count_outside_the_trained_range_is_refused(steps):
    with pytest.raises(ValueError, match=r"1 \.\.\. 100"):
        ddim_timesteps(100, steps)


@pytest.mark.parametrize(("prediction_type", "steps"), list(itertools.product(TYPES, STEPS)))
def test_a_ddim_update_is_diffusers_update(prediction_type, steps):
    theirs = ddim(prediction_type)
    theirs.set_timesteps(steps)
    rng = np.random.default_rng(steps)
    updates = plan(100, prediction_type, "ddim", steps)
    for update, following in itertools.zip_longest(updates, updates[1:]):
        # diffusers always goes 100 // steps timesteps further, which for 33 steps is not where it continues;
        # it is told the number of steps whose stride is the one really made.
        stride = update.timestep - (following.timestep if following else -1)
        theirs.num_inference_steps = 100 // stride
        assert 100 // theirs.num_inference_steps == stride
        x, output = rng.normal(size=(2, 2, 8, 3))
        expected = theirs.step(
            torch.from_numpy(output), update.timestep, torch.from_numpy(x), use_clipped_model_output=True
        )
        x0 = np.clip(update.sample * x + update.output * output, -1, 1)
        np.testing.assert_allclose(x0, expected.pred_original_sample.numpy(), atol=1e-6)
        np.testing.assert_allclose(
            update.to_x0 * x0 + update.to_x * x, expected.prev_sample.numpy(), atol=1e-6
        )
        assert update.noise == 0


@pytest.mark.parametrize("prediction_type", TYPES)
def test_a_ddpm_update_is_diffusers_update_with_fixed_small_variance(prediction_type):
    theirs = ddpm(prediction_type)
    theirs.set_timesteps(100)
    updates = plan(100, prediction_type, "ddpm", 10)
    assert [update.timestep for update in updates] == theirs.timesteps.tolist() == list(range(99, -1, -1))
    rng = np.random.default_rng(0)
    for update in updates:
        x, output = rng.normal(size=(2, 2, 8, 3))
        generator = torch.Generator().manual_seed(update.timestep)
        expected = theirs.step(
            torch.from_numpy(output), update.timestep, torch.from_numpy(x), generator=generator
        )
        generator.manual_seed(update.timestep)
        noise = torch.randn((2, 8, 3), generator=generator, dtype=torch.float64).numpy()
        x0 = np.clip(update.sample * x + update.output * output, -1, 1)
        found = update.to_x0 * x0 + update.to_x * x + update.noise * noise
        np.testing.assert_allclose(x0, expected.pred_original_sample.numpy(), atol=1e-6)
        # diffusers floors the variance at 1e-20 where ours is exactly zero.
        np.testing.assert_allclose(found, expected.prev_sample.numpy(), atol=1e-6)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_the_last_update_ends_at_the_clean_sample(sampler):
    last = plan(100, "sample", sampler, 10)[-1]
    assert last.to_x0 == pytest.approx(1.0, abs=1e-12)
    assert last.to_x == pytest.approx(0.0, abs=1e-12)
    assert last.noise == 0


@pytest.mark.parametrize("prediction_type", TYPES)
def test_x0_is_recovered_from_a_perfect_prediction(prediction_type):
    rng = np.random.default_rng(1)
    clean, noise = rng.uniform(-1, 1, 50), rng.normal(size=50)
    for alpha_bar in alphas_cumprod(100)[[0, 40, 90]]:
        x = alpha_bar**0.5 * clean + (1 - alpha_bar) ** 0.5 * noise
        target = {
            "sample": clean,
            "epsilon": noise,
            "v_prediction": alpha_bar**0.5 * noise - (1 - alpha_bar) ** 0.5 * clean,
        }[prediction_type]
        a, b = x0_coefficients(prediction_type, alpha_bar)
        np.testing.assert_allclose(a * x + b * target, clean, atol=1e-9)


def test_an_unknown_prediction_type_is_refused():
    with pytest.raises(ValueError, match="unknown prediction type 'score'"):
        x0_coefficients("score", 0.5)
