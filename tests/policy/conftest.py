"""Small policies: a spec, observations, a backend without a network, bundles of tiny networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from policy.observation import Observation
from policy.spec import (
    ActionSpec,
    BackboneSpec,
    CameraSpec,
    InstructionSpec,
    MeanStdStats,
    Normalization,
    PolicySpec,
    RangeStats,
    SamplerSpec,
    SensorSpec,
    StateSpec,
)

SIZE = 32
FORCE = SensorSpec(name="force", channels=2, window=8, rate_hz=100.0, units="N")


def small_spec(
    cameras: Sequence[str] = ("front",), sensors: Sequence[SensorSpec] = (), **changes: Any
) -> PolicySpec:
    """Three-dimensional actions in units of their own, so that a forgotten un-normalisation shows."""
    fields: dict[str, Any] = {
        "name": "small",
        "cameras": tuple(CameraSpec(name=name, height=SIZE, width=SIZE) for name in cameras),
        "state": StateSpec(names=("x", "y"), units=("m", "m")),
        "sensors": tuple(sensors),
        "instruction": InstructionSpec(required=True, by_task={"reach": ("move the hand to the goal",)}),
        "action": ActionSpec(
            names=("dx", "dy", "grip"),
            units=("mm", "mm", "1"),
            kind="delta",
            low=(-10.0, 0.0, -1.0),
            high=(10.0, 4.0, 1.0),
            rate_hz=80.0,
        ),
        "horizon": 8,
        "head": "diffusion",
        "sampler": SamplerSpec(train_steps=100, default_steps=3),
        "max_prefix": 4,
        "normalization": Normalization(
            state=RangeStats(minimum=(-0.5, 0.0), maximum=(0.5, 1.0)),
            action=RangeStats(minimum=(-10.0, 0.0, -1.0), maximum=(10.0, 4.0, 1.0)),
            sensors={
                s.name: MeanStdStats(mean=(3.0,) * s.channels, std=(2.0,) * s.channels) for s in sensors
            },
        ),
    }
    if changes.get("head") == "regression":
        fields["sampler"] = None
    return PolicySpec(**{**fields, **changes})


def some_observation(spec: PolicySpec, seed: int = 0, **changes: Any) -> Observation:
    """Random values inside the contract."""
    rng = np.random.default_rng(seed)
    fields: dict[str, Any] = {
        "images": {c.name: rng.integers(0, 256, (c.height, c.width, 3), np.uint8) for c in spec.cameras},
        "state": rng.uniform(0, 0.5, spec.state.dim).astype(np.float32),
        "instruction": "move the hand to the goal",
        "sensors": {s.name: rng.normal(size=(s.window, s.channels)).astype(np.float32) for s in spec.sensors},
    }
    return Observation(**{**fields, **changes})


class FakeBackend:
    """A "network" in NumPy that mixes everything it is given, row by row, and keeps what it was asked."""

    name = "fake"
    device = "cpu"

    def __init__(self, gain: float = 0.5, *, splits: bool = False) -> None:
        self.gain, self.splits = gain, splits
        self.pictured: list[np.ndarray] = []  # images of each call of `see`
        self.encoded: list[tuple[np.ndarray, ...]] = []
        self.denoised: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []

    def see(self, images: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        assert self.splits
        self.pictured.append(images)
        return self._look(images, tokens)

    def fuse(self, seen: np.ndarray, state: np.ndarray, sensors: Sequence[np.ndarray]) -> np.ndarray:
        assert self.splits
        sensed = state.sum(1, keepdims=True) + sum(window.mean() for window in sensors)
        return (seen + sensed).astype(np.float32)[:, None]

    def encode(
        self, images: np.ndarray, tokens: np.ndarray, state: np.ndarray, sensors: Sequence[np.ndarray]
    ) -> np.ndarray:
        assert not self.splits
        self.encoded.append((images, tokens, state, *sensors))
        return (self._look(images, tokens) + state.sum(1, keepdims=True)).astype(np.float32)[:, None]

    @staticmethod
    def _look(images: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        seen = images.reshape(len(images), -1).mean(1) / 255 + tokens.sum(1) % 7 / 7
        return seen.astype(np.float32)[:, None]

    def denoise(
        self, chunk: np.ndarray, timestep: np.ndarray, prefix_length: np.ndarray, context: np.ndarray
    ) -> np.ndarray:
        self.denoised.append((chunk.copy(), timestep, prefix_length, context))
        return (self.gain * np.tanh(chunk + context + 0.01 * timestep[:, None, None])).astype(np.float32)


@pytest.fixture(scope="session")
def make_spec() -> Callable[..., PolicySpec]:
    return small_spec


@pytest.fixture(scope="session")
def make_observation() -> Callable[..., Observation]:
    return some_observation


@pytest.fixture(scope="session")
def make_backend() -> type[FakeBackend]:
    return FakeBackend


@pytest.fixture(scope="session")
def force() -> SensorSpec:
    return FORCE


@pytest.fixture(scope="session")
def tiny_config() -> Any:
    from policy.networks.config import NetworkConfig

    return NetworkConfig(
        vision_widths=(8, 8), blocks_per_stage=1, keypoints=4, text_dim=8, hidden_dim=24, layers=1, heads=2,
        context_tokens=2, fusion_dim=16,
    )  # fmt: skip


@pytest.fixture(scope="session")
def make_network(tiny_config: Any) -> Callable[..., Any]:
    """A tiny network; with `trained`, its zero-initialised layers hold values, as after training."""
    import torch

    from policy.networks.network import PolicyNetwork

    def make(spec: PolicySpec, *, seed: int = 0, trained: bool = True) -> PolicyNetwork:
        torch.manual_seed(seed)
        network = PolicyNetwork(spec, tiny_config)
        if trained:
            with torch.no_grad():
                for parameter in network.parameters():
                    parameter.add_(0.08 * torch.randn_like(parameter))
        return network.eval()

    return make


@pytest.fixture(scope="session")
def see_through(backbone_at: Callable[..., Path]) -> Callable[..., PolicySpec]:
    """A spec -> the same with a tiny backbone in place of the network's own eyes."""
    from policy.networks.backbone.files import find_backbone
    from policy.networks.backbone.prompt import PROMPT

    def through(spec: PolicySpec, kind: str = "qwen2_5_vl", **changes: Any) -> PolicySpec:
        files = find_backbone(str(backbone_at(kind)), download=False)
        fields = {
            "name": files.name, "sha256": files.sha256(), "model_type": kind, "tokens": 96, "width": 32,
            "views": tuple(camera.name for camera in spec.cameras), "prompt": PROMPT, "dtype": "fp32",
        }  # fmt: skip
        return spec.model_copy(update={"backbone": BackboneSpec(**{**fields, **changes})})

    return through


@pytest.fixture(scope="session")
def backbone_bundle(
    tmp_path_factory: pytest.TempPathFactory,
    make_network: Callable[..., Any],
    see_through: Callable[..., Any],
) -> Path:
    """A policy with two views, a sensor and adapters on a tiny Qwen2.5-VL that it names; no test may change it."""
    from policy.export.write_bundle import write_bundle

    adapters = {"lora_rank": 2, "lora_alpha": 4, "lora_targets": ("q_proj", "v_proj")}
    spec = see_through(small_spec(cameras=("front", "side"), sensors=(FORCE,)), **adapters)
    directory = tmp_path_factory.mktemp("bundles") / "backbone"
    write_bundle(directory, make_network(spec), spec)
    return directory


# name -> what is particular about it; one without and one with a sensor, both heads, one and two cameras.
BUNDLES: dict[str, dict[str, Any]] = {
    "diffusion": {},
    "diffusion+sensor": {"cameras": ("front", "side"), "sensors": (FORCE,)},
    "regression": {"head": "regression"},
}


@pytest.fixture(scope="session")
def bundles(
    tmp_path_factory: pytest.TempPathFactory, make_network: Callable[..., Any]
) -> Callable[[str], Path]:
    """Name of `BUNDLES` -> directory of an exported bundle; made once, never to be changed by a test."""
    from policy.export.write_bundle import write_bundle

    made: dict[str, Path] = {}

    def bundle(name: str) -> Path:
        if name not in made:
            spec = small_spec(**BUNDLES[name])
            made[name] = tmp_path_factory.mktemp("bundles") / name
            write_bundle(made[name], make_network(spec), spec)
        return made[name]

    return bundle
