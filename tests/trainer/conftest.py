"""Synthetic datasets whose images and actions both spell their own number, and settings small enough for a test."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clients.lerobot_v3 import (
    DatasetFacts,
    EpisodeArrays,
    LeRobotDataset,
    SensorFacts,
    SensorStream,
    finalize_dataset,
    stage_episode,
)

ENVIRONMENT = ("goal_x", "goal_y", "goal_z")


def picture(number: int, size: int, view: int = 0) -> bytes:
    """A PNG of one colour that spells a frame number (up to 65535) and the camera."""
    colour = np.uint8([number % 256, number // 256, 10 + view])
    buffer = io.BytesIO()
    Image.fromarray(np.broadcast_to(colour, (size, size, 3)).copy()).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def spelt(image: np.ndarray) -> np.ndarray:
    """The frame number of images [..., H, W, 3], which must be of one colour."""
    assert np.all(image == image[..., :1, :1, :])
    return image[..., 0, 0, 0].astype(int) + 256 * image[..., 0, 0, 1].astype(int)


def number_actions(frames: np.ndarray, per_frame: int) -> np.ndarray:
    """[T, K * 2]: every control step is told by its own number, and by the number's negative."""
    steps = frames[:, None] * per_frame + np.arange(per_frame)
    return np.stack([steps, -steps], -1).reshape(len(frames), -1).astype(np.float32)


TIP, TIP_FACTS = "tip", SensorFacts(channels=2, rate_hz=100.0, window=10, units="N")


def tip_stream(times: np.ndarray, frames: int) -> SensorStream:
    """A stream whose values are functions of time."""
    return SensorStream(times, np.stack([np.sin(times), np.cos(times)], 1), np.arange(frames) / 20)


def write_dataset(
    root: Path,
    lengths: Sequence[int],
    *,
    per_frame: int = 2,
    size: int = 8,
    cameras: Sequence[str] = ("front",),
    scale: float = 1.0,
    streams: Sequence[np.ndarray] = (),
    **finalizing: Any,
) -> Path:
    """Frames are numbered through the whole dataset; state and goal follow from the number too.

    `streams` are the sample times of each episode's sensor `tip`, against frames at 20 Hz.
    """
    first, keys = 0, []
    for number, length in enumerate(lengths):
        frames = np.arange(first, first + length)
        episode = EpisodeArrays(
            task=f"do task {number % 2}",
            images={camera: [picture(f, size, v) for f in frames] for v, camera in enumerate(cameras)},
            state=np.stack([frames, np.cos(frames)], 1).astype(np.float32) * np.float32([scale, 1]),
            action=number_actions(frames, per_frame) * np.float32(scale),
            environment_state=np.stack([np.sin(frames), np.cos(frames), frames / 100], 1).astype(np.float32),
            extra={"metaworld_task": f"task{number % 2}"},
            sensors={TIP: tip_stream(streams[number], length)} if streams else {},
        )
        keys.append(f"episode-{number:06d}")
        stage_episode(root, keys[-1], episode)
        first += length
    facts = DatasetFacts(
        cameras=dict.fromkeys(cameras, (size, size)),
        state_names=("x", "y"),
        action_names=("dx", "dy"),
        environment_state_names=ENVIRONMENT,
        fps=20.0,
        control_rate_hz=20.0 * per_frame,
        actions_per_frame=per_frame,
        free={"sensors": {TIP: TIP_FACTS.to_json()}} if streams else {},
    )
    finalize_dataset(root, keys, facts, **finalizing)
    return root


@pytest.fixture(scope="session")
def make_dataset() -> Callable[..., Path]:
    return write_dataset


@pytest.fixture(scope="session")
def numbers_of() -> Callable[[np.ndarray], np.ndarray]:
    return spelt


@pytest.fixture
def make_cache(tmp_path: Path) -> Callable[..., Any]:
    """Episode lengths -> the decoded cache of a fresh dataset of numbered frames."""
    from trainer.cache import open_cache
    from trainer.contract import cameras_of

    def make(lengths: Sequence[int], name: str = "data", **options: Any) -> Any:
        dataset = LeRobotDataset(write_dataset(tmp_path / name, lengths, **options))
        return open_cache(dataset, cameras_of(dataset.facts))

    return make


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six episodes of eight 32-pixel frames; not to be changed by a test."""
    return write_dataset(tmp_path_factory.mktemp("data") / "numbers", [8] * 6, size=32, scale=0.01)


@pytest.fixture
def make_args(dataset: Path, tmp_path: Path) -> Callable[..., Any]:
    """Settings of a run of two epochs with five batches each, on one thread in 32 bits."""
    from trainer.settings import TrainArgs

    def make(**changes: Any) -> TrainArgs:
        fields: dict[str, Any] = {
            "dataset_dir": (dataset,), "out": tmp_path / "run", "epochs": 2, "batch_size": 8, "lr": 1e-3,
            "patience": 0, "horizon": 8, "max_prefix": 4, "draws": 2, "hidden_dim": 24, "layers": 1,
            "val_split": 0.2, "precision": "fp32", "device": "cpu", "threads": 1, "save_every": 1,
        }  # fmt: skip
        return TrainArgs(**{**fields, **changes})

    return make


@pytest.fixture
def small_vision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks of a few channels, where a test is about the trainer and not about the network."""
    import functools

    from policy.networks.config import NetworkConfig
    from trainer import network_choice

    tiny = {"vision_widths": (8, 8), "blocks_per_stage": 1, "keypoints": 4, "text_dim": 8, "fusion_dim": 16,
            "context_tokens": 2}  # fmt: skip
    monkeypatch.setattr(network_choice, "NetworkConfig", functools.partial(NetworkConfig, **tiny))
