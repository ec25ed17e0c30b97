"""The network: quiet at the start, sees everything it is given, and treats committed actions as clean."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from policy.export.graphs import encode_inputs
from policy.networks.config import NetworkConfig
from policy.networks.network import PolicyNetwork
from policy.networks.trunk import timestep_embedding
from policy.networks.vision import GroupNorm, SpatialSoftmax


@pytest.fixture
def spec(make_spec, force):
    return make_spec(cameras=("front", "side"), sensors=(force,))


@pytest.fixture
def inputs(spec):
    torch.manual_seed(1)
    return dict(zip(*encode_inputs(spec, batch=3), strict=True))


def denoise(network, *, prefix=0, timestep=50, seed=0, chunk=None):
    """Output for a batch of two, from a chunk and context that follow from `seed`."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(2, 8, 3, generator=generator)
    context = torch.randn(2, 2, 24, generator=generator)
    chunk = noise if chunk is None else chunk
    with torch.no_grad():
        return network.denoise(chunk, torch.full((2,), timestep), torch.full((2,), prefix), context)


def test_a_fresh_network_predicts_exactly_zero(make_spec, make_network):
    network = make_network(make_spec(), trained=False)
    assert not denoise(network).any()


def test_with_torchs_default_initialisation_it_would_not(make_spec, make_network):
    """The defect of the original: its first loss was several times the data's variance."""
    network = make_network(make_spec(), trained=False)
    for module in network.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    assert denoise(network).square().mean().sqrt() > 0.1


def test_residual_branches_start_closed(make_spec, make_network):
    """Zero output layers are not enough: the trunk must start as the identity of its input."""
    network = make_network(make_spec(), trained=False)
    for block in network.trunk.blocks:
        assert not block.self_attention.out.weight.any()
        assert not block.cross_attention.out.weight.any()
        assert not block.mlp[2].weight.any()
    assert not network.trunk.modulation.weight.any()


def test_every_weight_can_learn(spec, make_network, inputs):
    """After a step or two off zero, no weight is cut off from the loss."""
    network = make_network(spec)
    context = network.encode(*inputs.values())
    context = (
        context + 0 * network.encoder.locate(network.encoder.see(inputs["images"], inputs["tokens"])).sum()
    )
    output = network.denoise(
        torch.randn(3, 8, 3), torch.tensor([5, 50, 99]), torch.tensor([0, 2, 0]), context
    )
    output.square().mean().backward()
    dead = [
        name
        for name, parameter in network.named_parameters()
        if "auxiliary" not in name and "absent" not in name
        and (parameter.grad is None or not parameter.grad.any())
    ]  # fmt: skip
    assert dead == []


@pytest.mark.parametrize("changed", ["images", "tokens", "state", "force"])
def test_everything_seen_changes_the_context(spec, make_network, inputs, changed):
    network = make_network(spec, trained=False)
    other = dict(inputs)
    other[changed] = inputs[changed].flip(0).contiguous()
    with torch.no_grad():
        before, after = network.encode(*inputs.values()), network.encode(*other.values())
    assert (before[0] - after[0]).abs().max() > 1e-4
    torch.testing.assert_close(before[1], after[1])  # the middle row is where it was


@pytest.mark.parametrize("view", [0, 1])
def test_every_camera_changes_the_context(spec, make_network, inputs, view):
    network = make_network(spec, trained=False)
    other = dict(inputs, images=inputs["images"].clone())
    other["images"][:, view] = 0
    with torch.no_grad():
        difference = network.encode(*inputs.values()) - network.encode(*other.values())
    assert difference.abs().max() > 1e-4


def test_cameras_cannot_be_swapped(spec, make_network, inputs):
    network = make_network(spec)
    swapped = dict(inputs, images=inputs["images"].flip(1))
    with torch.no_grad():
        difference = network.encode(*inputs.values()) - network.encode(*swapped.values())
    assert difference.abs().max() > 1e-4


def test_an_absent_sensor_is_a_learned_vector_whatever_the_window_holds(spec, make_network, inputs):
    network = make_network(spec)
    inputs["force_mask"] = torch.zeros_like(inputs["force_mask"])
    other = dict(inputs, force=inputs["force"] * 100)
    present = dict(inputs, force_mask=torch.ones_like(inputs["force_mask"]))
    with torch.no_grad():
        absent = network.encode(*inputs.values())
        torch.testing.assert_close(absent, network.encode(*other.values()))
        assert (absent - network.encode(*present.values())).abs().max() > 1e-4


def test_masked_samples_of_a_window_have_no_influence(spec, make_network, inputs):
    network = make_network(spec)
    inputs["force_mask"][:, :5] = 0
    other = dict(inputs, force=inputs["force"].clone())
    other["force"][:, :5] = 1e3
    with torch.no_grad():
        torch.testing.assert_close(network.encode(*inputs.values()), network.encode(*other.values()))


def test_an_unknown_state_has_no_influence(spec, make_network, inputs):
    """Training hides the state at times; a hidden one must not leak."""
    network = make_network(spec)
    other = dict(inputs, state=inputs["state"] + 5)
    hidden = torch.zeros(3, 1)
    with torch.no_grad():
        torch.testing.assert_close(
            network.encode(*inputs.values(), state_known=hidden),
            network.encode(*other.values(), state_known=hidden),
        )
        shown = network.encode(*inputs.values()) - network.encode(*inputs.values(), state_known=hidden)
    assert shown.abs().max() > 1e-4


def test_the_context_changes_the_prediction(make_spec, make_network):
    network = make_network(make_spec())
    chunk = torch.zeros(2, 8, 3)
    one, other = (denoise(network, chunk=chunk, seed=seed) for seed in (0, 1))
    assert (one - other).abs().max() > 1e-4


def test_the_timestep_changes_the_prediction(make_spec, make_network):
    network = make_network(make_spec())
    assert (denoise(network, timestep=5) - denoise(network, timestep=90)).abs().max() > 1e-4


def test_a_chunk_that_is_wholly_committed_has_no_noisy_timestep(make_spec, make_network):
    network = make_network(make_spec())
    torch.testing.assert_close(
        denoise(network, timestep=5, prefix=8), denoise(network, timestep=90, prefix=8), atol=0, rtol=0
    )


def test_a_token_that_is_committed_only_in_part_keeps_the_noisy_timestep(make_spec, make_network):
    network = make_network(make_spec())  # four actions a token
    assert (denoise(network, timestep=5, prefix=7) - denoise(network, timestep=90, prefix=7))[:, 4:].any()


@pytest.mark.parametrize("prefix", [1, 4, 6])
def test_committed_actions_influence_the_rest_of_the_chunk(make_spec, make_network, prefix):
    network = make_network(make_spec())
    chunk = torch.zeros(2, 8, 3)
    other = chunk.clone()
    other[:, :prefix] = 1.0
    difference = denoise(network, prefix=prefix, chunk=chunk) - denoise(network, prefix=prefix, chunk=other)
    assert difference[:, prefix:].abs().max() > 1e-4


def test_the_network_is_told_which_actions_are_committed(make_spec, make_network):
    network = make_network(make_spec())
    assert (denoise(network, prefix=1) - denoise(network, prefix=2)).abs().max() > 1e-4


def test_rows_of_a_batch_do_not_mix(make_spec, make_network):
    network = make_network(make_spec())
    chunk = torch.randn(2, 8, 3, generator=torch.Generator().manual_seed(4))
    other = chunk.clone()
    other[1] = 9.0
    torch.testing.assert_close(denoise(network, chunk=chunk)[0], denoise(network, chunk=other)[0])


def test_the_order_of_actions_matters(make_spec, make_network):
    """Without positional embeddings a chunk would be a bag of actions."""
    network = make_network(make_spec())
    zero = torch.zeros(2, 8, 3)
    output = denoise(network, chunk=zero)
    assert (output[:, :4] - output[:, 4:]).abs().max() > 1e-4


def test_every_timestep_has_an_embedding_of_its_own():
    embedded = timestep_embedding(torch.arange(101))
    distances = torch.cdist(embedded, embedded) + 10 * torch.eye(101)
    assert distances.min() > 0.1


def test_a_horizon_that_does_not_fill_its_tokens_is_refused(make_spec, tiny_config):
    with pytest.raises(ValueError, match="horizon 6 is no multiple of 4"):
        PolicyNetwork(make_spec(horizon=6), tiny_config)


def test_the_network_is_rebuilt_from_json(tiny_config):
    assert NetworkConfig.from_json(tiny_config.to_json()) == tiny_config
    assert NetworkConfig.from_json({**tiny_config.to_json(), "vision_widths": [8, 8]}) == tiny_config


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_group_norm_is_torchs_group_norm(memory):
    torch.manual_seed(0)
    ours, theirs = GroupNorm(4, 8), torch.nn.GroupNorm(4, 8)
    for norm in (ours, theirs):
        torch.nn.init.normal_(norm.weight, generator=torch.Generator().manual_seed(1))
        torch.nn.init.normal_(norm.bias, generator=torch.Generator().manual_seed(2))
    x = torch.randn(3, 8, 5, 7).contiguous(memory_format=memory)
    torch.testing.assert_close(ours(x), theirs(x))
    with torch.autocast("cpu", torch.bfloat16):
        half = ours(x.bfloat16())
    assert half.dtype == torch.bfloat16  # autocast would have widened it
    torch.testing.assert_close(half.float(), theirs(x), atol=0.05, rtol=0.05)


@pytest.mark.parametrize(("row", "column"), [(0, 0), (6, 2), (10, 14), (3, 7)])
def test_spatial_softmax_finds_a_planted_peak(row, column):
    logits = torch.zeros(1, 2, 11, 15)
    logits[0, 1, row, column] = 60.0
    x, y, peak = SpatialSoftmax()(logits).reshape(3, 2)
    assert x[1] == pytest.approx(np.linspace(-1, 1, 15)[column], abs=1e-4)
    assert y[1] == pytest.approx(np.linspace(-1, 1, 11)[row], abs=1e-4)
    assert peak[1] == pytest.approx(1.0, abs=1e-4)
    # The flat map beside it: the middle of the image, and no confidence.
    assert (x[0], y[0]) == (pytest.approx(0, abs=1e-5), pytest.approx(0, abs=1e-5))
    assert peak[0] == pytest.approx((11 * 15) ** -0.5, abs=1e-4)


def test_a_goal_marker_of_a_few_pixels_moves_a_keypoint(make_spec, make_network):
    """Two scenes that differ in where a small dot is must not look the same to the trunk."""
    network = make_network(make_spec())
    images = torch.full((2, 1, 32, 32, 3), 128, dtype=torch.uint8)
    images[0, 0, 4:7, 4:7] = 255
    images[1, 0, 24:27, 24:27] = 255
    tokens = torch.ones(2, 96, dtype=torch.int64)
    with torch.no_grad():
        seen = network.encoder.see(images, tokens)
    assert (seen[0] - seen[1]).abs().max() > 1e-3
