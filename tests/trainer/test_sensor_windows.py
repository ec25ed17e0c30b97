"""Sensors reach training as they reach serving: causal, padded, masked, and normalised by the training episodes."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from clients.lerobot_v3 import SensorFacts, SensorStream
from policy.loaded import sensor_input
from policy.null import null_spec
from policy.spec import MeanStdStats, SensorSpec
from trainer.losses import to_example
from trainer.sensor_windows import cut_windows, sensor_specs, sensor_stats
from trainer.windows import Batch

FACTS = {"tip": SensorFacts(channels=2, rate_hz=100.0, window=10, units="N")}


def stream(seconds: float = 2.0, begin: float = -0.05) -> SensorStream:
    times = np.arange(round(begin * 100), round(seconds * 100)) / 100
    values = np.stack([times, 10 + times**2], 1).astype(np.float16)
    return SensorStream(times, values, np.arange(8) / 5)


def test_a_sample_s_window_ends_at_its_frame_and_is_padded_at_the_front() -> None:
    window, mask = cut_windows(FACTS, [{"tip": stream()}], np.array([0, 0]), np.array([0, 3]))
    assert window.shape == (2, 10, 2)
    assert mask.tolist() == [[0] * 4 + [1] * 6, [1] * 10]
    assert (window[0, :4] == 0).all()
    assert window[0, -1, 0] == 0.0
    np.testing.assert_allclose(window[1, -1, 0], 0.6, atol=1e-3)


def test_what_comes_after_a_frame_never_reaches_its_window() -> None:
    whole, cut = stream(), stream()
    spoiled = SensorStream(cut.times, np.where(cut.times[:, None] > 0.6, 99.0, cut.values), cut.frame_times)
    at = (np.array([0]), np.array([3]))
    for one, other in zip(
        cut_windows(FACTS, [{"tip": whole}], *at), cut_windows(FACTS, [{"tip": spoiled}], *at), strict=True
    ):
        np.testing.assert_allclose(one, other, atol=1e-2)


def test_training_pads_as_serving_does() -> None:
    (spec,) = sensor_specs(FACTS)
    window, mask = cut_windows(FACTS, [{"tip": stream()}], np.array([0]), np.array([0]))
    served, served_mask = sensor_input(spec, stream().window(0, FACTS["tip"]))
    np.testing.assert_array_equal(window[0], served)
    np.testing.assert_array_equal(mask[0], served_mask)


def test_statistics_are_those_of_the_streams() -> None:
    streams = [stream(20.0), stream(30.0)]
    values = np.concatenate([np.asarray(s.values, np.float64) for s in streams])
    found = sensor_stats(streams)
    np.testing.assert_allclose(found.mean, values.mean(0), rtol=0.02)
    np.testing.assert_allclose(found.std, values.std(0), rtol=0.02)


def test_statistics_of_no_samples_leave_values_as_they_are() -> None:
    none = SensorStream(np.zeros(0), np.zeros((0, 2), np.float16), np.arange(8) / 5)
    assert sensor_stats([none, none]) == MeanStdStats(mean=(0.0, 0.0), std=(1.0, 1.0))
    assert sensor_stats([none, stream()]) == sensor_stats([stream()])


def test_an_example_holds_normalised_windows_that_are_zero_where_masked() -> None:
    spec = null_spec(
        sensors=[SensorSpec(name="tip", channels=2, window=10, rate_hz=100.0, units="N")], size=4
    )
    stats = spec.normalization.model_copy(update={"sensors": {"tip": sensor_stats([stream()])}})
    spec = spec.model_copy(update={"normalization": stats})
    window, mask = cut_windows(FACTS, [{"tip": stream()}], np.array([0]), np.array([0]))
    batch = Batch(
        images=np.zeros((1, 1, 4, 4, 3), np.uint8),
        tokens=np.zeros((1, 96), np.int64),
        state=np.zeros((1, 4), np.float32),
        environment_state=np.zeros((1, 0), np.float32),
        actions=np.zeros((1, 48, 4), np.float32),
        executed=np.zeros((1, 48, 4), np.float32),
        lead=np.zeros(1, np.int64),
        valid=np.ones((1, 48), bool),
        sensors=(window, mask),
    )
    got, got_mask = to_example(batch, spec, np.zeros(0, np.int64), None, torch.device("cpu")).sensors
    assert (got[0, :4] == 0).all()
    assert got_mask[0].sum() == 6
    mean, std = spec.normalization.sensors["tip"].mean[0], spec.normalization.sensors["tip"].std[0]
    assert float(got[0, -1, 0]) == pytest.approx((0.0 - mean) / std, rel=1e-3)


def test_datasets_of_other_sensors_are_not_mixed() -> None:
    from policy.errors import UsageError
    from trainer.contract import check_alike

    facts = SimpleNamespace(
        cameras={},
        state_names=(),
        action_names=("a",),
        actions_per_frame=1,
        control_rate_hz=1.0,
        environment_state_names=None,
        robot_type=None,
        free={},
    )
    one = SimpleNamespace(root="one", facts=facts, sensors=FACTS)
    other = SimpleNamespace(root="other", facts=facts, sensors={})
    with pytest.raises(UsageError, match="sensors"):
        check_alike([one, other])  # type: ignore[list-item]
