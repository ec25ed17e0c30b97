"""The shipped policy behind real doors: samples with their spread, seeds, and vision at its own rate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from clients.client import PolicyClient
from policy.bundle import load_bundle, read_golden
from policy.observation import SampleOptions
from service.running import RunningServer
from service.settings import DEFAULT_BUNDLE
from service.wire.messages import ActRequest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with RunningServer(lambda: load_bundle(DEFAULT_BUNDLE, "auto", "cpu", 1)) as running:
        yield running


@pytest.fixture(scope="module")
def golden() -> ActRequest:
    observation, _ = read_golden(DEFAULT_BUNDLE / "golden.npz")
    return ActRequest(observation, SampleOptions(ddim_steps=2, seed=7), session="arm")


def test_several_samples_give_their_mean_and_their_spread(client: PolicyClient, golden: ActRequest) -> None:
    one = client.act(golden)
    many = client.act(replace(golden, options=replace(golden.options, samples=4)))
    assert one.uncertainty is None
    assert many.uncertainty is not None
    assert many.uncertainty.shape == (many.horizon,)
    assert np.all(many.uncertainty >= 0)
    assert np.any(many.uncertainty > 0)
    assert np.abs(many.actions - one.actions).max() > 0


def test_a_seed_gives_the_same_actions_again(client: PolicyClient, golden: ActRequest) -> None:
    np.testing.assert_allclose(client.act(golden).actions, client.act(golden).actions, atol=1e-5)


def test_what_was_seen_is_reused_until_the_session_starts_over(
    client: PolicyClient, golden: ActRequest
) -> None:
    asking = replace(golden, vl_max_age_ms=60_000.0)
    dark = {name: np.zeros_like(image) for name, image in golden.observation.images.items()}
    blind = replace(asking, observation=replace(golden.observation, images=dark))
    client.reset("arm")
    first, reused = client.act(asking), client.act(blind)
    assert first.vl_age_ms == 0
    assert reused.vl_age_ms is not None
    assert reused.vl_age_ms > 0
    np.testing.assert_allclose(reused.actions, first.actions, atol=1e-5)
    client.reset("arm")
    looked = client.act(blind)
    assert looked.vl_age_ms == 0
    assert np.abs(looked.actions - first.actions).max() > 1e-3
