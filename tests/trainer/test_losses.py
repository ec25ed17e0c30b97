"""The loss: near the data's variance at the start, zero for an oracle, blind to prefixes and padding."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from policy.networks.config import NetworkConfig
from policy.networks.network import PolicyNetwork
from policy.null import null_spec
from policy.schedule import alphas_cumprod
from policy.spec import MeanStdStats, RangeStats, SamplerSpec
from trainer.losses import Corruption, Example, compute_losses, draw_corruption, run_pass, to_example
from trainer.windows import Batch

TYPES = ("sample", "epsilon", "v_prediction")
ROWS, DRAWS, HORIZON, DIM = 6, 3, 8, 2
TINY = NetworkConfig(
    vision_widths=(8, 8), blocks_per_stage=1, keypoints=4, text_dim=8, hidden_dim=24, layers=1, heads=2,
    context_tokens=2, fusion_dim=16, auxiliary_targets=("goal_x", "goal_y"),
)  # fmt: skip


def make_spec(prediction_type: str | None = "sample", **changes):
    spec = null_spec(size=16, state_dim=3, horizon=HORIZON, action_dim=DIM, max_prefix=4)
    if prediction_type is None:
        return spec.model_copy(update={"head": "regression", "sampler": None, **changes})
    sampler = SamplerSpec(train_steps=100, prediction_type=prediction_type)
    return spec.model_copy(update={"sampler": sampler, **changes})


def make_example(seed: int = 0, auxiliary: int = 0) -> Example:
    generator = torch.Generator().manual_seed(seed)
    valid = torch.ones(ROWS, HORIZON, dtype=torch.bool)
    valid[1, 5:] = False
    valid[4, 1:] = False
    images = torch.randint(0, 256, (ROWS, 1, 16, 16, 3), generator=generator, dtype=torch.uint8)
    tokens = torch.randint(0, 90, (ROWS, 96), generator=generator)
    state = torch.rand(ROWS, 3, generator=generator) * 2 - 1
    actions = torch.rand(ROWS, HORIZON, DIM, generator=generator) * 2 - 1
    return Example(
        images=images,
        tokens=tokens,
        state=state,
        actions=actions,
        executed=actions,
        lead=torch.zeros(ROWS, dtype=torch.int64),
        valid=valid,
        auxiliary=torch.rand(ROWS, auxiliary, generator=generator) * 2 - 1,
    )


def corrupt(spec, seed: int = 0, prefix_probability: float = 0.5, **changes) -> Corruption:
    settings = {"state_noise": 0.01, "state_dropout": 0.2, **changes}
    generator = torch.Generator().manual_seed(seed)
    return draw_corruption(generator, ROWS, DRAWS, spec, prefix_probability=prefix_probability, **settings)


class Told:
    """Stands in for a network: no perception, and a denoiser given by the test."""

    class encoder:
        @staticmethod
        def see(images, tokens):
            return torch.zeros(len(images), 1)

        @staticmethod
        def fuse(seen, state, state_known, sensors):
            return torch.zeros(len(seen), 1, 1)

    def __init__(self, denoise) -> None:
        self.denoise = denoise


def silent(chunk, timestep, prefix_length, context):
    return torch.zeros_like(chunk)


def oracle(spec, clean):
    """Knows the clean chunks, and works out the network's target from what it is shown."""

    def denoise(chunk, timestep, prefix_length, context):
        known = clean.repeat_interleave(DRAWS, 0)
        if spec.sampler is None:
            return known
        ab = torch.from_numpy(alphas_cumprod(100)).float()[timestep][:, None, None]
        noise = (chunk - ab.sqrt() * known) / (1 - ab).sqrt()
        return {
            "sample": known,
            "epsilon": noise,
            "v_prediction": ab.sqrt() * noise - (1 - ab).sqrt() * known,
        }[spec.sampler.prediction_type]

    return Told(denoise)


@pytest.mark.parametrize("prediction_type", [*TYPES, None])
def test_an_oracle_has_no_loss(prediction_type):
    spec, example = make_spec(prediction_type), make_example()
    found = compute_losses(oracle(spec, example.actions), spec, example, corrupt(spec))
    assert float(found.action) < 1e-6
    wrong = compute_losses(oracle(spec, example.actions + 0.5), spec, example, corrupt(spec))
    assert float(wrong.action) > 1e-3


@pytest.mark.parametrize("prediction_type", [*TYPES, None])
def test_a_fresh_networks_loss_is_the_variance_of_its_target(prediction_type):
    torch.manual_seed(0)
    spec, example = make_spec(prediction_type), make_example()
    network, corruption = PolicyNetwork(spec, TINY), corrupt(spec)
    found = float(compute_losses(network, spec, example, corruption).action)
    told = float(compute_losses(Told(silent), spec, example, corruption).action)
    assert found == pytest.approx(told, rel=1e-6)
    data, noise = 1 / 3, 1.0  # uniform actions, unit noise
    expected = {"sample": data, "epsilon": noise, None: data}.get(prediction_type)
    if expected is not None:
        assert found == pytest.approx(expected, rel=0.2)
    else:
        assert data * 0.8 < found < noise * 1.2


def test_torchs_default_initialisation_starts_above_the_datas_variance():
    """What the original did: its first loss is not that of a model that knows nothing, but of one that is wrong."""
    torch.manual_seed(0)
    spec, example = make_spec("sample"), make_example()
    network, corruption = PolicyNetwork(spec, TINY), corrupt(spec)
    right = float(compute_losses(network, spec, example, corruption).action)
    for module in network.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    assert float(compute_losses(network, spec, example, corruption).action) > 1.05 * right


@pytest.mark.parametrize("prediction_type", [*TYPES, None])
def test_padding_and_prefixes_are_not_counted(prediction_type):
    spec, example = make_spec(prediction_type), make_example()
    corruption = corrupt(spec, prefix_probability=1.0)
    corruption = replace(corruption, prefix_length=torch.full_like(corruption.prefix_length, 3))
    uncounted = ~example.valid
    uncounted[:, :3] = True
    changed = replace(example, actions=torch.where(uncounted[..., None], 50.0, example.actions))
    repeated = uncounted.repeat_interleave(DRAWS, 0)[..., None]
    louder = replace(corruption, noise=torch.where(repeated, 50.0, corruption.noise))
    expected = compute_losses(Told(silent), spec, example, corruption).action
    assert float(expected) > 0
    for one, other in ((changed, corruption), (example, louder)):
        torch.testing.assert_close(compute_losses(Told(silent), spec, one, other).action, expected)
    counted = replace(example, actions=torch.where(uncounted[..., None], example.actions, 50.0))
    if prediction_type != "epsilon":  # whose target is the noise
        assert float(compute_losses(Told(silent), spec, counted, corruption).action) > 10


@pytest.mark.parametrize("prediction_type", [*TYPES, None])
def test_a_prefix_holds_what_was_executed_and_the_loss_what_was_demonstrated(prediction_type):
    spec, example = make_spec(prediction_type), make_example()
    pushed = replace(example, executed=-example.actions)
    corruption = corrupt(spec, prefix_probability=1.0)
    found = run_pass(Told(silent), spec, pushed, corruption)
    for row, length in enumerate(corruption.prefix_length):
        shown = found.chunk[row, :length]
        torch.testing.assert_close(shown, pushed.executed[row // DRAWS, :length])
    told = run_pass(Told(silent), spec, example, corruption)
    torch.testing.assert_close(found.target, told.target)


def test_what_nobody_demonstrated_is_always_a_prefix():
    spec, example = make_spec("sample"), make_example()
    lead = torch.tensor([3, *[0] * (ROWS - 1)])
    driven = replace(example, executed=-example.actions, lead=lead)
    found = run_pass(Told(silent), spec, driven, corrupt(spec, prefix_probability=0.0))
    assert not found.counted[:DRAWS, :3].any()
    torch.testing.assert_close(found.chunk[:DRAWS, :3], driven.executed[:1, :3].expand(DRAWS, -1, -1))
    assert found.counted[DRAWS:, 0].all()


def test_the_loss_is_the_mean_over_what_counts_and_not_over_everything():
    spec, example = make_spec("sample"), make_example()
    corruption = corrupt(spec, prefix_probability=0.0)
    short = replace(example, valid=torch.zeros_like(example.valid))
    short.valid[:, 0] = True
    found = compute_losses(Told(silent), spec, short, corruption).action
    torch.testing.assert_close(found, example.actions[:, 0].square().mean())


def test_a_batch_of_nothing_but_padding_has_no_loss():
    spec, example = make_spec("sample"), make_example()
    empty = replace(example, valid=torch.zeros_like(example.valid))
    assert float(compute_losses(Told(silent), spec, empty, corrupt(spec)).action) == 0


@pytest.mark.parametrize("prediction_type", TYPES)
def test_the_network_is_shown_prefixes_clean_and_the_rest_noised(prediction_type):
    spec, example = make_spec(prediction_type), make_example()
    corruption, shown = corrupt(spec, prefix_probability=1.0), {}

    def watch(chunk, timestep, prefix_length, context):
        shown.update(chunk=chunk, timestep=timestep, length=prefix_length)
        return chunk

    compute_losses(Told(watch), spec, example, corruption)
    clean = example.actions.repeat_interleave(DRAWS, 0)
    ab = torch.from_numpy(alphas_cumprod(100)).float()[corruption.timestep][:, None, None]
    noised = ab.sqrt() * clean + (1 - ab).sqrt() * corruption.noise
    assert shown["length"].tolist() == corruption.prefix_length.tolist()
    assert int(shown["length"].min()) >= 1
    for row, length in enumerate(shown["length"].tolist()):
        torch.testing.assert_close(shown["chunk"][row, :length], clean[row, :length])
        torch.testing.assert_close(shown["chunk"][row, length:], noised[row, length:])


def test_a_regression_head_is_shown_what_serving_will_show_it():
    spec, example, shown = make_spec(None), make_example(), []

    def watch(chunk, timestep, prefix_length, context):
        shown.append((chunk, timestep))
        return chunk

    compute_losses(Told(watch), spec, example, corrupt(spec, prefix_probability=0.0))
    assert not shown[0][0].any()
    assert not shown[0][1].any()


def test_corruption_follows_from_its_generator_and_covers_its_ranges():
    spec = make_spec("sample")
    generator = torch.Generator().manual_seed(0)
    settings = {"prefix_probability": 0.4, "state_noise": 0.01, "state_dropout": 0.2}
    many = draw_corruption(generator, 2000, 2, spec, **settings)
    assert set(many.timestep.tolist()) == set(range(100))
    assert set(many.prefix_length.tolist()) == {0, 1, 2, 3, 4}
    assert float((many.prefix_length > 0).float().mean()) == pytest.approx(0.4, abs=0.03)
    assert float(many.state_known.mean()) == pytest.approx(0.8, abs=0.03)
    assert float(many.state_noise.std()) == pytest.approx(0.01, rel=0.05)
    assert float(many.noise.std()) == pytest.approx(1.0, rel=0.02)
    for name, value in vars(corrupt(spec, seed=3)).items():
        assert torch.equal(value, getattr(corrupt(spec, seed=3), name))
    assert not torch.equal(corrupt(spec, seed=3).noise, corrupt(spec, seed=4).noise)


def test_a_policy_without_prefixes_is_never_trained_on_one():
    spec = make_spec("sample", max_prefix=0)
    assert not corrupt(spec, prefix_probability=1.0).prefix_length.any()


def test_auxiliary_targets_teach_the_encoder_alone():
    torch.manual_seed(0)
    spec, example = make_spec("sample"), make_example(auxiliary=2)
    network = PolicyNetwork(spec, TINY)
    found = compute_losses(network, spec, example, corrupt(spec))
    found.auxiliary.backward()
    taught = {
        name.split(".")[0] for name, p in network.named_parameters() if p.grad is not None and p.grad.any()
    }
    assert taught == {"encoder"}
    assert float(found.auxiliary) == pytest.approx(1 / 3, rel=0.5)
    assert float(compute_losses(network, spec, make_example(), corrupt(spec)).auxiliary) == 0


def test_the_network_can_learn_one_batch_by_heart():
    torch.manual_seed(0)
    spec, example = make_spec("sample"), make_example()
    network = PolicyNetwork(spec, TINY)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    losses = []
    for step in range(60):
        loss = compute_losses(network, spec, example, corrupt(spec, seed=step)).action
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:3])


def test_examples_are_normalised_by_the_functions_that_serving_uses():
    spec = make_spec("sample")
    stats = spec.normalization.model_copy(update={
        "state": RangeStats(minimum=(0.0,) * 3, maximum=(4.0,) * 3),
        "action": RangeStats(minimum=(-10.0, 0.0), maximum=(10.0, 1.0)),
    })  # fmt: skip
    spec = spec.model_copy(update={"normalization": stats})
    batch = Batch(
        images=np.zeros((2, 1, 16, 16, 3), np.uint8),
        tokens=np.zeros((2, 96), np.int64),
        state=np.float32([[0, 2, 4], [4, 4, 4]]),
        environment_state=np.float32([[9, 1, 5], [9, 3, 5]]),
        actions=np.tile(np.float32([5, 0.5]), (2, HORIZON, 1)),
        executed=np.tile(np.float32([-5, 0.5]), (2, HORIZON, 1)),
        lead=np.array([0, 2]),
        valid=np.ones((2, HORIZON), bool),
    )
    goal = MeanStdStats(mean=(2.0,), std=(1.0,))
    found = to_example(batch, spec, np.array([1]), goal, torch.device("cpu"))
    assert found.state.tolist() == [[-1, 0, 1], [1, 1, 1]]
    assert found.actions[0, 0].tolist() == [0.5, 0.0]
    assert found.executed[0, 0].tolist() == [-0.5, 0.0]
    assert found.lead.tolist() == [0, 2]
    assert found.auxiliary.tolist() == [[-1], [1]]
    assert to_example(batch, spec, np.array([1]), None, torch.device("cpu")).auxiliary.shape == (2, 0)


def test_prefix_noise_moves_the_prefix_as_a_whole_and_nothing_else():
    spec, example, shown = make_spec("sample"), make_example(), []
    small = example.actions * 0.1
    example = replace(example, actions=small, executed=small)  # far from the range's ends

    def watch(chunk, timestep, prefix_length, context):
        shown.append(chunk)
        return chunk

    for prefix_noise in (0.0, 0.05):
        exact = corrupt(spec, prefix_probability=1.0, prefix_noise=prefix_noise)
        compute_losses(Told(watch), spec, example, exact)
    moved = shown[1] - shown[0]
    is_prefix = torch.arange(HORIZON) < exact.prefix_length[:, None]
    assert not moved[~is_prefix].any()
    expected = exact.prefix_offset.expand_as(moved)[is_prefix]
    assert torch.allclose(moved[is_prefix], expected, atol=1e-6)
    assert float(expected.abs().min()) > 0
