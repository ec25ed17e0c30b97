"""Sensors in training: dropped windows teach the policy to do without, and a weight favours samples that have data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from policy.networks.config import NetworkConfig
from policy.networks.network import PolicyNetwork
from policy.null import null_spec
from policy.spec import SensorSpec
from trainer.losses import Example, compute_losses, draw_corruption
from trainer.sensor_loss import sample_weights, shown_sensors
from trainer.train import Trainer

ROWS, DRAWS, HORIZON, DIM, WINDOW = 6, 3, 8, 2, 5
SENSORS = [
    SensorSpec(name=name, channels=2, window=WINDOW, rate_hz=100.0, units="N") for name in ("tip", "wrist")
]
TINY = NetworkConfig(
    vision_widths=(8, 8), blocks_per_stage=1, keypoints=4, text_dim=8, hidden_dim=24, layers=1, heads=2,
    context_tokens=2, fusion_dim=16,
)  # fmt: skip


def make_spec(head: str = "diffusion"):
    spec = null_spec(size=16, state_dim=3, horizon=HORIZON, action_dim=DIM, sensors=SENSORS, max_prefix=4)
    return spec if head == "diffusion" else spec.model_copy(update={"head": "regression", "sampler": None})


def make_example() -> Example:
    """The first two samples have no data of either sensor."""
    generator = torch.Generator().manual_seed(0)
    mask = torch.ones(ROWS, WINDOW)
    mask[:2] = 0
    actions = torch.rand(ROWS, HORIZON, DIM, generator=generator) * 2 - 1
    return Example(
        images=torch.randint(0, 256, (ROWS, 1, 16, 16, 3), generator=generator, dtype=torch.uint8),
        tokens=torch.randint(0, 90, (ROWS, 96), generator=generator),
        state=torch.rand(ROWS, 3, generator=generator) * 2 - 1,
        actions=actions,
        executed=actions,
        lead=torch.zeros(ROWS, dtype=torch.int64),
        valid=torch.ones(ROWS, HORIZON, dtype=torch.bool),
        auxiliary=torch.zeros(ROWS, 0),
        sensors=(torch.randn(ROWS, WINDOW, 2, generator=generator), mask) * 2,
    )


def corrupt(spec, dropout: float, rows: int = ROWS):
    return draw_corruption(
        torch.Generator().manual_seed(1), rows, DRAWS, spec, prefix_probability=0.0, state_noise=0.0,
        state_dropout=0.0, sensor_dropout=dropout,
    )  # fmt: skip


def test_each_sensor_is_dropped_for_the_asked_share_of_samples_whole_windows_at_a_time() -> None:
    known = corrupt(make_spec(), 0.3, rows=4000).sensor_known
    np.testing.assert_allclose(1 - known.mean(0), [0.3, 0.3], atol=0.03)
    assert 0.05 < (1 - known).prod(1).mean() < 0.13  # both at once only by chance
    windows = torch.ones(2, WINDOW, 2)
    masks = torch.ones(2, WINDOW)
    ((_, first), (_, second)) = shown_sensors(
        (windows, masks, windows, masks), torch.tensor([[1.0, 0], [0, 1]])
    )
    assert first.tolist() == [[1.0] * WINDOW, [0.0] * WINDOW]
    assert second.tolist() == [[0.0] * WINDOW, [1.0] * WINDOW]


def test_dropout_draws_nothing_else_anew() -> None:
    """A run with sensor dropout sees the noise, prefixes and state that one without it sees."""
    without, with_it = corrupt(make_spec(), 0.0), corrupt(make_spec(), 0.9)
    assert bool((without.sensor_known == 1).all())
    assert bool((with_it.sensor_known == 0).any())
    for name in set(vars(without)) - {"sensor_known"}:
        assert torch.equal(getattr(without, name), getattr(with_it, name)), name


@pytest.mark.parametrize("head", ["diffusion", "regression"])
def test_only_dropout_trains_what_stands_for_an_absent_sensor(head: str) -> None:
    torch.manual_seed(0)
    spec, example = make_spec(head), make_example()
    example = replace(example, sensors=tuple(torch.ones_like(x) for x in example.sensors))
    for dropout, trained in ((0.0, False), (1.0, True)):
        network = PolicyNetwork(spec, TINY)
        for parameter in network.parameters():  # zeros at the start would let no gradient through
            torch.nn.init.normal_(parameter, std=0.3)
        compute_losses(network, spec, example, corrupt(spec, dropout)).action.backward()
        for sensor in network.encoder.sensors:
            assert bool(sensor.absent.grad.abs().sum() > 0) is trained
            assert bool(sensor.conv1.weight.grad.abs().sum() > 0) is not trained


def test_weights_favour_samples_that_are_shown_data_and_average_to_one() -> None:
    example = make_example()
    sensed = shown_sensors(example.sensors, torch.tensor([[1.0, 1.0]] * 5 + [[0.0, 0.0]]))
    weights = sample_weights(sensed, 4.0)
    assert float(weights.mean()) == pytest.approx(1.0)
    assert (weights / weights[0]).tolist() == pytest.approx([1, 1, 4, 4, 4, 1])  # the last one's was dropped
    assert sample_weights(shown_sensors(example.sensors, torch.ones(ROWS, 2)), 1.0).tolist() == [1.0] * ROWS


@pytest.mark.parametrize("head", ["diffusion", "regression"])
def test_the_loss_is_the_weighted_mean_whatever_the_head(head: str) -> None:
    torch.manual_seed(0)
    spec, example = make_spec(head), make_example()
    network, corruption = PolicyNetwork(spec, TINY), corrupt(spec, 0.0)
    plain = compute_losses(network, spec, example, corruption)
    of_sample = plain.by_draw.view(ROWS, DRAWS).mean(1)
    weights = torch.tensor([1.0, 1, 4, 4, 4, 4])
    found = compute_losses(network, spec, example, corruption, 4.0)
    assert float(found.action.detach()) == pytest.approx(
        float((of_sample * weights).sum() / weights.sum()), rel=1e-5
    )
    assert float(plain.action.detach()) == pytest.approx(float(of_sample.mean()), rel=1e-5)


TIMES = np.arange(-20, 60) / 100  # of the frames, at 20 Hz, all have a whole window


@pytest.fixture
def sensor_dataset(make_dataset, tmp_path):
    return make_dataset(tmp_path / "sensed", [8] * 6, size=32, scale=0.01, streams=[TIMES] * 6)


def test_the_contract_says_whether_the_policy_was_trained_to_do_without(
    sensor_dataset, make_dataset, make_args, small_vision, tmp_path
) -> None:
    late = make_dataset(tmp_path / "late", [8] * 6, size=32, scale=0.01, streams=[TIMES[60:]] * 6)
    for data, dropout, optional in (
        (sensor_dataset, 0.0, False),
        (sensor_dataset, 0.2, True),
        (late, 0.0, True),
    ):
        (sensor,) = Trainer(make_args(dataset_dir=(data,), sensor_dropout=dropout)).spec.sensors
        assert sensor.optional is optional


def test_sessions_that_were_all_recorded_without_the_sensor_are_trained_on(
    make_dataset, make_args, small_vision, tmp_path
) -> None:
    without = make_dataset(tmp_path / "without", [8] * 6, size=32, scale=0.01, streams=[TIMES[:0]] * 6)
    trainer = Trainer(make_args(dataset_dir=(without,), epochs=1, save_every=0))
    trainer.run()
    assert trainer.progress.skipped == 0
    assert np.isfinite(trainer.progress.validation).all()


def test_validation_sees_every_sensor_and_then_none(sensor_dataset, make_args, small_vision) -> None:
    found = [
        Trainer(make_args(dataset_dir=(sensor_dataset,), sensor_dropout=dropout)).validate()
        for dropout in (0.0, 0.5)
    ]
    assert found[0].loss == found[1].loss  # the same weights: dropout is no part of what is judged
    assert np.isnan(found[0].loss_without_sensors)
    trainer = Trainer(make_args(dataset_dir=(sensor_dataset,), sensor_dropout=0.5))
    for parameter in trainer.ema.module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    judged = trainer.validate()
    assert np.isfinite(judged.loss_without_sensors)
    assert judged.loss_without_sensors != judged.loss


def test_training_reports_both_losses(sensor_dataset, make_args, small_vision, capsys) -> None:
    Trainer(make_args(dataset_dir=(sensor_dataset,), sensor_dropout=0.5, sensor_loss_weight=3.0)).run()
    assert "Val without sensors: " in capsys.readouterr().out
