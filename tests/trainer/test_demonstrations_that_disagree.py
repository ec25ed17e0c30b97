"""What a diffusion policy is for: one picture, two right answers. It draws either; regression draws neither."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from policy.loaded import LoadedPolicy
from policy.networks.config import NetworkConfig
from policy.networks.network import PolicyNetwork
from policy.null import null_spec
from policy.observation import Observation, SampleOptions
from policy.runtimes.eager import EagerBackend
from policy.spec import PolicySpec, SamplerSpec
from policy.text import tokenize
from trainer.losses import Example, compute_losses, draw_corruption

ROWS, DRAWS, STEPS, SIZE, HORIZON, WAY = 2, 32, 400, 16, 8, 0.8
TINY = NetworkConfig(
    vision_widths=(8, 8), blocks_per_stage=1, keypoints=4, text_dim=8, hidden_dim=32, layers=2, heads=2,
    context_tokens=2, fusion_dim=16,
)  # fmt: skip


def make_spec(prediction_type: str | None) -> PolicySpec:
    spec = null_spec(size=SIZE, state_dim=1, horizon=HORIZON, action_dim=1, max_prefix=2)
    if prediction_type is None:
        return spec.model_copy(update={"head": "regression", "sampler": None})
    return spec.model_copy(update={"sampler": SamplerSpec(train_steps=100, prediction_type=prediction_type)})


def same_picture(rows: int) -> Example:
    """One observation, from which half of the demonstrations go left and half go right."""
    ways = torch.where(torch.arange(rows) % 2 == 0, WAY, -WAY)
    actions = ways[:, None, None].expand(rows, HORIZON, 1).contiguous()
    return Example(
        images=torch.zeros(rows, 1, SIZE, SIZE, 3, dtype=torch.uint8),
        tokens=torch.from_numpy(tokenize("")).expand(rows, -1),
        state=torch.zeros(rows, 1),
        actions=actions,
        executed=actions,
        lead=torch.zeros(rows, dtype=torch.int64),
        valid=torch.ones(rows, HORIZON, dtype=torch.bool),
        auxiliary=torch.zeros(rows, 0),
    )


def trained(spec: PolicySpec) -> PolicyNetwork:
    torch.manual_seed(0)
    network, generator = PolicyNetwork(spec, TINY), torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    example = same_picture(ROWS)
    for _ in range(STEPS):
        corruption = draw_corruption(
            generator, ROWS, DRAWS, spec, prefix_probability=0.4, state_noise=0.0, state_dropout=0.0
        )
        optimizer.zero_grad()
        compute_losses(network, spec, example, corruption).action.backward()
        optimizer.step()
    return network.eval()


def drawn(network: PolicyNetwork, spec: PolicySpec, chunks: int, prefix: float | None = None) -> np.ndarray:
    """[chunks, HORIZON], as serving draws them."""
    policy = LoadedPolicy(spec, EagerBackend(network))
    seen = Observation({"corner4": np.zeros((SIZE, SIZE, 3), np.uint8)}, np.zeros(1, np.float32))
    committed = None if prefix is None else np.full((2, 1), prefix, np.float32)
    options = [SampleOptions(seed=row, prefix=committed) for row in range(chunks)]
    return np.stack([one.actions[:, 0] for one in policy.predict([seen] * chunks, options)])


def share_near(chunks: np.ndarray, way: float | np.ndarray) -> float:
    """Of chunks that are near `way` from their first action to their last."""
    return float((np.abs(chunks - way).max(1) < 0.25).mean())


@pytest.mark.parametrize("prediction_type", ["sample", "epsilon", "v_prediction"])
def test_diffusion_goes_either_way_and_stays_on_it(prediction_type: str) -> None:
    spec = make_spec(prediction_type)
    network = trained(spec)
    chunks = drawn(network, spec, 64)
    ways = np.sign(chunks.mean(1))
    assert 16 <= (ways > 0).sum() <= 48  # fair coins leave this once in 20,000 times
    # Noise that lies between the two may lead anywhere, and a tiny network blurs where that is.
    assert share_near(chunks, WAY * ways[:, None]) >= 0.85
    for way in (WAY, -WAY):  # what was begun is gone on with
        assert share_near(drawn(network, spec, 32, prefix=way), way) >= 0.85


@pytest.mark.parametrize("prediction_type", ["sample", "epsilon", "v_prediction"])
def test_from_no_noise_it_goes_one_way_and_always_the_same(prediction_type: str) -> None:
    spec = make_spec(prediction_type)
    assert spec.sampler is not None
    network = trained(spec)
    steady = spec.model_copy(update={"sampler": spec.sampler.model_copy(update={"temperature": 0.0})})
    chunks = drawn(network, steady, 4)
    np.testing.assert_array_equal(chunks, np.tile(chunks[:1], (4, 1)))
    assert share_near(chunks, WAY * np.sign(chunks.mean(1))[:, None]) == 1
    for way in (WAY, -WAY):
        assert share_near(drawn(network, steady, 1, prefix=way), way) == 1


def test_regression_goes_between_them() -> None:
    spec = make_spec(None)
    network = trained(spec)
    assert np.abs(drawn(network, spec, 1)).max() < 0.2
    for way in (WAY, -WAY):
        assert np.abs(drawn(network, spec, 1, prefix=way) - way).max() < 0.25
