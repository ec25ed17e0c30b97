"""Sensor streams beside a dataset: what was staged comes back, mapped, and no kill or damage goes unnoticed."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clients.lerobot_v3 import (
    DatasetFacts,
    EpisodeArrays,
    LeRobotDataset,
    SensorFacts,
    SensorStream,
    dataset_hash,
    finalize_dataset,
    stage_episode,
)
from policy.errors import UsageError

NAME = "needle_tip"
FACTS = SensorFacts(channels=3, rate_hz=650.0, window=65, units="N")


def jpeg() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 6)).save(out, "JPEG")
    return out.getvalue()


def stream(frames: int, seed: int = 0) -> SensorStream:
    times = np.arange(-65, 130 * frames) / 650
    values = np.random.default_rng(seed).normal(size=(len(times), 3)).astype(np.float32)
    return SensorStream(times, values, np.arange(frames) / 5)


def episode(frames: int = 4, seed: int = 0) -> EpisodeArrays:
    return EpisodeArrays(
        task="do it",
        images={"view1": [jpeg()] * frames},
        state=np.zeros((frames, 2), np.float32),
        action=np.zeros((frames, 2), np.float32),
        sensors={NAME: stream(frames, seed)},
    )


def facts() -> DatasetFacts:
    return DatasetFacts(
        cameras={"view1": (6, 8)},
        state_names=("a", "b"),
        action_names=("c", "d"),
        fps=5,
        control_rate_hz=5,
        free={"sensors": {NAME: FACTS.to_json()}},
    )


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    for key, seed in (("x", 1), ("y", 2)):
        stage_episode(tmp_path, key, episode(seed=seed))
    finalize_dataset(tmp_path, ["x", "y"], facts())
    return tmp_path


def test_streams_come_back_with_their_episodes_and_times(dataset: Path) -> None:
    opened = LeRobotDataset(dataset)
    assert opened.sensors == {NAME: FACTS}
    for index, seed in ((0, 1), (1, 2)):
        got, sent = opened.stream(index, NAME), stream(4, seed)
        np.testing.assert_array_equal(got.times, sent.times)
        np.testing.assert_array_equal(got.frame_times, sent.frame_times)
        np.testing.assert_array_equal(got.values, sent.values.astype(np.float16))
        assert isinstance(got.values, np.memmap)
        assert opened.episode(index).sensors[NAME].values.shape == got.values.shape


def test_a_frame_s_window_is_what_was_known_when_it_was_taken(dataset: Path) -> None:
    got = LeRobotDataset(dataset).stream(0, NAME)
    for frame in range(4):
        window = got.window(frame, FACTS)
        assert window.shape == (65, 3)
        last = int(np.flatnonzero(got.times <= got.frame_times[frame])[-1])
        np.testing.assert_array_equal(window[-1], np.asarray(got.values[last], np.float32))


def test_nothing_of_a_stream_stays_staged(dataset: Path) -> None:
    assert not list(dataset.glob(".staging/*"))
    assert len(list(dataset.glob("sensors/needle_tip/episode-*"))) == 4


def test_a_finalize_that_was_killed_is_done_again_without_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("x", "y"):
        stage_episode(tmp_path, key, episode())
    with monkeypatch.context() as patched:
        patched.setattr(
            "clients.lerobot_v3.writer.write_tasks", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        with pytest.raises(KeyboardInterrupt):
            finalize_dataset(tmp_path, ["x", "y"], facts())
    finalize_dataset(tmp_path, ["y", "x"], facts())
    assert LeRobotDataset(tmp_path).stream(1, NAME).values.shape == stream(4).values.shape


def test_the_dataset_s_hash_covers_its_streams(dataset: Path) -> None:
    before = dataset_hash(dataset)
    path = dataset / "sensors" / NAME / "episode-000001.npy"
    path.write_bytes(path.read_bytes()[:-2] + b"\x01\x02")
    assert dataset_hash(dataset) != before


@pytest.mark.parametrize("suffix", [".npy", ".times.npz"])
@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_a_damaged_stream_is_one_line(dataset: Path, suffix: str, damage: str) -> None:
    path = dataset / "sensors" / NAME / f"episode-000000{suffix}"
    whole = path.read_bytes()
    path.unlink()
    if damage == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UsageError, match="damaged or missing") as caught:
        LeRobotDataset(dataset).stream(0, NAME)
    assert "\n" not in str(caught.value)


def test_an_episode_without_its_stream_does_not_become_part_of_a_dataset(tmp_path: Path) -> None:
    stage_episode(tmp_path, "x", episode())
    (tmp_path / ".staging" / f"x.{NAME}.npy").unlink()
    with pytest.raises(UsageError, match="missing"):
        finalize_dataset(tmp_path, ["x"], facts())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda s: SensorStream(s.times[::-1], s.values, s.frame_times), "ascending"),
        (lambda s: SensorStream(s.times[:-1], s.values, s.frame_times), "times for samples"),
        (lambda s: SensorStream(s.times, s.values, s.frame_times[:-1]), "frame times"),
        (lambda s: SensorStream(s.times, s.values * np.nan, s.frame_times), "not finite"),
        (lambda s: SensorStream(s.times, s.values + 1e6, s.frame_times), "too large"),
    ],
)
def test_a_stream_at_fault_is_not_staged(tmp_path: Path, change, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        stage_episode(
            tmp_path, "x", EpisodeArrays(**{**vars(episode()), "sensors": {NAME: change(stream(4))}})
        )
    assert not list(tmp_path.glob(".staging/*.parquet"))


def test_a_sensor_that_is_not_there_is_told_by_name(dataset: Path) -> None:
    with pytest.raises(UsageError, match="no sensor 'ultrasound'"):
        LeRobotDataset(dataset).stream(0, "ultrasound")
