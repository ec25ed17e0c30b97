"""Actions that the sampler's clip cuts, or that unit noise does not cover, are found by both who look at them."""

from __future__ import annotations

import numpy as np
import pytest

from clients.lerobot_v3 import LeRobotDataset
from policy.spec import PolicySpec, RangeStats
from tests.trainer.diagnosis.told import diagnosed
from tests.trainer.dots import write_dots
from trainer.cache import open_cache
from trainer.contract import cameras_of


def with_action_stats(minimum: np.ndarray, maximum: np.ndarray):
    stats = RangeStats(minimum=tuple(map(float, minimum)), maximum=tuple(map(float, maximum)))

    def change(spec: PolicySpec) -> PolicySpec:
        normalization = spec.normalization.model_copy(update={"action": stats})
        return spec.model_copy(update={"normalization": normalization})

    return change


@pytest.mark.parametrize("what", ["schedule", "data"])
def test_z_scored_actions_under_a_clip_at_1_are_found(dots, altered, what):
    dataset = LeRobotDataset(dots)
    actions = open_cache(dataset, cameras_of(dataset.facts)).actions
    mean, std = actions.mean(0), actions.std(0)
    told = diagnosed(what, altered(spec=with_action_stats(mean - std, mean + std)))
    assert "z-scored" in told.of("cut-by-the-sampler")


@pytest.mark.parametrize("what", ["schedule", "data"])
def test_actions_that_are_not_normalised_are_found(tmp_path, altered, what):
    """The contract leaves them as they are, and they come in millimetres."""
    dataset = write_dots(tmp_path / "millimetres", scale=5000.0)
    place = altered(spec=with_action_stats(-np.ones(2), np.ones(2)))
    assert "not-normalised" in diagnosed(what, place, "--dataset-dir", str(dataset)).codes


def test_a_schedule_that_leaves_some_signal_is_found(dots, monkeypatch):
    monkeypatch.setattr(
        "trainer.diagnosis.schedule.alphas_cumprod", lambda steps: np.linspace(0.999, 0.1, steps)
    )
    assert "--diffusion-timesteps" in diagnosed("schedule", dots).of("signal-left")
