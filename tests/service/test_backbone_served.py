"""A policy with a vision-language backbone behind real doors, which looks only as often as its robot asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from clients.client import PolicyClient
from policy.bundle import load_bundle, read_golden
from policy.export.write_bundle import write_bundle
from policy.networks.backbone.files import find_backbone
from policy.networks.backbone.prompt import PROMPT
from policy.networks.config import NetworkConfig
from policy.networks.network import PolicyNetwork
from policy.null import null_spec
from policy.observation import SampleOptions
from policy.spec import BackboneSpec
from service.running import RunningServer
from service.wire.messages import ActRequest


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, backbone_at: Callable[..., Path]) -> Path:
    files = find_backbone(str(backbone_at("llava")), download=False)
    backbone = BackboneSpec(
        name=files.name, sha256=files.sha256(), model_type="llava", views=("corner4", "topview"), prompt=PROMPT,
        tokens=96, width=32, dtype="fp32", lora_rank=2, lora_alpha=4, lora_targets=("q_proj",),
    )  # fmt: skip
    spec = null_spec(cameras=("corner4", "topview"), size=32)
    spec = spec.model_copy(update={"name": "sees", "backbone": backbone})
    torch.manual_seed(0)
    network = PolicyNetwork(spec, NetworkConfig(hidden_dim=24, layers=1, heads=2))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    directory = tmp_path_factory.mktemp("bundles") / "sees"
    write_bundle(directory, network, spec)
    return directory


@pytest.fixture(scope="module")
def server(bundle: Path) -> Iterator[RunningServer]:
    with RunningServer(lambda: load_bundle(bundle, "onnx", "cpu", 1)) as running:
        yield running


@pytest.fixture
def asking(bundle: Path) -> ActRequest:
    observation, _ = read_golden(bundle / "golden.npz")
    observation = replace(observation, instruction="press the button")
    return ActRequest(observation, SampleOptions(ddim_steps=2, seed=7), session="arm", vl_max_age_ms=60_000.0)


def test_a_chunk_comes_and_what_was_seen_is_reused_while_the_state_is_fresh(
    client: PolicyClient, asking: ActRequest
) -> None:
    dark = {name: np.zeros_like(image) for name, image in asking.observation.images.items()}
    blind = replace(asking, observation=replace(asking.observation, images=dark))
    client.reset("arm")
    first, reused = client.act(asking), client.act(blind)
    assert first.actions.shape == (first.horizon, 4)
    assert (first.vl_age_ms, reused.vl_age_ms is not None and reused.vl_age_ms > 0) == (0, True)
    np.testing.assert_allclose(reused.actions, first.actions, atol=1e-5)

    moved = replace(blind, observation=replace(blind.observation, state=asking.observation.state + 0.2))
    assert np.abs(client.act(moved).actions - first.actions).max() > 1e-4
    client.reset("arm")
    looked = client.act(blind)
    assert looked.vl_age_ms == 0
    assert np.abs(looked.actions - first.actions).max() > 1e-4


def test_another_instruction_looks_again(client: PolicyClient, asking: ActRequest) -> None:
    client.reset("arm")
    first = client.act(asking)
    other = replace(asking, observation=replace(asking.observation, instruction="open the drawer"))
    looked = client.act(other)
    assert looked.vl_age_ms == 0
    assert np.abs(looked.actions - first.actions).max() > 1e-4
