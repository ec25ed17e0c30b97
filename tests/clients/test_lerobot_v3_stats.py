"""Dataset statistics agree with the data itself, whatever way they were summed."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from clients.lerobot_v3.stats import RunningStats, image_stats, sample_indices, vector_stats


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_summed_episodes_equal_one_pass_over_all_frames():
    rng = np.random.default_rng(0)
    episodes = [rng.normal(loc=i, scale=1 + i, size=(10 + 7 * i, 3)) for i in range(6)]
    running = RunningStats()
    for episode in episodes:
        running.add({"action": vector_stats(episode)})
    together, result = np.concatenate(episodes), running.result()["action"]
    np.testing.assert_allclose(result["mean"], together.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(result["std"], together.std(axis=0), rtol=1e-12)
    np.testing.assert_array_equal(result["min"], together.min(axis=0))
    np.testing.assert_array_equal(result["max"], together.max(axis=0))
    assert result["count"].tolist() == [len(together)]


def test_a_constant_far_from_zero_has_no_spread():
    running = RunningStats()
    for _ in range(50):
        running.add({"state": vector_stats(np.full((20, 1), 1234.567))})
    assert running.result()["state"]["std"][0] < 1e-9


def test_dataset_quantiles_are_the_weighted_mean_of_the_episodes():
    running = RunningStats()
    running.add({"x": vector_stats(np.zeros((30, 1)))})
    running.add({"x": vector_stats(np.ones((10, 1)))})
    assert running.result()["x"]["q50"] == pytest.approx([0.25])


def test_quantiles_are_the_smallest_value_that_so_many_do_not_exceed():
    stats = vector_stats(np.arange(1, 101, dtype=np.float32))
    assert [stats[name][0] for name in ("q01", "q10", "q50", "q90", "q99")] == [1, 10, 50, 90, 99]


def test_image_statistics_are_per_channel_in_unit_range():
    rng = np.random.default_rng(1)
    frames = rng.integers(0, 256, (20, 9, 7, 3), dtype=np.uint8)
    frames[..., 2] = 51
    stats = image_stats([png(frame) for frame in frames])
    assert all(value.shape == (3, 1, 1) for name, value in stats.items() if name != "count")
    unit = frames.astype(np.float64) / 255
    np.testing.assert_allclose(stats["mean"].ravel(), unit.mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(stats["std"].ravel(), unit.std(axis=(0, 1, 2)), atol=1e-12)
    np.testing.assert_array_equal(stats["max"].ravel(), unit.max(axis=(0, 1, 2)))
    assert stats["q50"].ravel()[2] == pytest.approx(0.2)
    assert stats["count"].tolist() == [20]


@pytest.mark.parametrize(("length", "samples"), [(1, 1), (99, 99), (500, 105), (1000, 177), (10_000, 1000)])
def test_long_episodes_are_sampled_evenly_as_lerobot_samples_them(length, samples):
    indices = sample_indices(length)
    assert len(indices) == samples
    assert (indices[0], indices[-1]) == (0, length - 1)
    assert indices == sorted(set(indices))
