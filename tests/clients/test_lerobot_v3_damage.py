"""Kills lose nothing, and damage is told in one line that names the file."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clients.lerobot_v3 import (
    DatasetFacts,
    EpisodeArrays,
    LeRobotDataset,
    dataset_hash,
    finalize_dataset,
    is_complete,
    read_staged,
    stage_episode,
    staged_keys,
)
from policy.errors import UsageError

FACTS = DatasetFacts(
    cameras={"corner4": (16, 16)},
    state_names=("x", "y"),
    action_names=("dx", "dy"),
    fps=20,
    control_rate_hz=20,
)
KEYS = [f"k{i}" for i in range(6)]


def frame(shade: int, size: tuple[int, int] = (16, 16)) -> bytes:
    noise = np.random.default_rng(shade).integers(0, 256, (*size, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "JPEG")
    return buffer.getvalue()


def make_episode(i: int, **changes) -> EpisodeArrays:
    parts = {
        "task": "reach",
        "images": {"corner4": [frame(10 * i + t) for t in range(4)]},
        "state": np.full((4, 2), i, np.float32),
        "action": np.full((4, 2), i, np.float32),
    }
    return EpisodeArrays(**{**parts, **changes})


def stage_all(root: Path) -> Path:
    for i, key in enumerate(KEYS):
        stage_episode(root, key, make_episode(i))
    return root


@pytest.fixture
def dataset(tmp_path) -> Path:
    root = stage_all(tmp_path / "dataset")
    finalize_dataset(root, KEYS, FACTS)
    return root


def run_and_expect_kill(code: str, root: Path) -> None:
    done = subprocess.run([sys.executable, "-c", code, str(root)], capture_output=True, text=True, timeout=60)
    assert done.returncode == -signal.SIGKILL, done.stderr


def one_line(error: pytest.ExceptionInfo[UsageError]) -> str:
    text = str(error.value)
    assert text
    assert "\n" not in text
    return text


FINALIZE_KILLED = """
import os, signal, sys
from pathlib import Path
from clients.lerobot_v3 import DatasetFacts, finalize_dataset
facts = DatasetFacts({"corner4": (16, 16)}, ("x", "y"), ("dx", "dy"), fps=20, control_rate_hz=20)
def kill(done, total):
    if done == 4:
        os.kill(os.getpid(), signal.SIGKILL)
keys = [f"k{i}" for i in range(6)]
finalize_dataset(Path(sys.argv[1]), keys, facts, progress=kill, data_files_size_in_mb=0.005)
"""

STAGE_KILLED = """
import os, signal, sys
import numpy as np
from clients.lerobot_v3 import EpisodeArrays, stage_episode
os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
stage_episode(sys.argv[1], "late", EpisodeArrays("t", {}, np.ones((1, 1), "f4"), np.ones((1, 1), "f4")))
"""


def test_a_kill_while_finalizing_is_recognised_and_loses_nothing(tmp_path, dataset):
    root = stage_all(tmp_path / "killed")
    run_and_expect_kill(FINALIZE_KILLED, root)
    assert list((root / "data").rglob("*.parquet")), "the kill came before anything was written"
    assert not is_complete(root)
    assert staged_keys(root) == set(KEYS)
    with pytest.raises(UsageError) as error:
        LeRobotDataset(root)
    message = one_line(error)
    assert "half-written" in message
    assert "6 episodes staged" in message
    assert "tinyvla collect" in message

    finalize_dataset(root, KEYS, FACTS)
    assert dataset_hash(root) == dataset_hash(dataset)


def test_a_kill_while_staging_leaves_no_half_episode(tmp_path):
    stage_episode(tmp_path, "k0", make_episode(0))
    run_and_expect_kill(STAGE_KILLED, tmp_path)
    assert len(list((tmp_path / ".staging").iterdir())) == 2, "the temporary file should be there"
    assert staged_keys(tmp_path) == {"k0"}
    finalize_dataset(tmp_path, ["k0"], FACTS)
    assert LeRobotDataset(tmp_path).num_episodes == 1
    assert not (tmp_path / ".staging").exists()


@pytest.mark.parametrize("size_in_mb", [100, 0.005])
def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path, monkeypatch, dataset, size_in_mb):
    root = stage_all(tmp_path / "full")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(UsageError, match="No space left") as error:
            finalize_dataset(root, KEYS, FACTS, data_files_size_in_mb=size_in_mb)
        one_line(error)
        with pytest.raises(UsageError, match="No space left"):
            stage_episode(root, "late", make_episode(7))
    assert not is_complete(root)
    assert staged_keys(root) == set(KEYS)
    finalize_dataset(root, KEYS, FACTS)
    assert dataset_hash(root) == dataset_hash(dataset)


def test_staged_episodes_that_were_not_asked_for_stay(tmp_path):
    stage_all(tmp_path)
    finalize_dataset(tmp_path, KEYS[:2], FACTS)
    assert staged_keys(tmp_path) == set(KEYS[2:])


def test_a_complete_dataset_is_never_overwritten(dataset):
    before = dataset_hash(dataset)
    stage_all(dataset)
    with pytest.raises(UsageError, match="already complete"):
        finalize_dataset(dataset, KEYS[:1], FACTS)
    assert dataset_hash(dataset) == before


def test_an_episode_that_was_not_collected_is_named(tmp_path):
    stage_all(tmp_path)
    with pytest.raises(UsageError, match="'k17'"):
        finalize_dataset(tmp_path, [*KEYS, "k17"], FACTS)
    assert staged_keys(tmp_path) == set(KEYS)


def test_an_episode_of_another_image_size_is_refused(tmp_path):
    stage_all(tmp_path)
    stage_episode(tmp_path, "k3", make_episode(3, images={"corner4": [frame(1, (16, 24))] * 4}))
    with pytest.raises(UsageError, match=r"k3\.parquet: cameras: expected .*\(16, 16\).*\(16, 24\)"):
        finalize_dataset(tmp_path, KEYS, FACTS)
    assert staged_keys(tmp_path) == set(KEYS)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"state": np.full((4, 2), np.nan, np.float32)}, "state: not finite at frame 0"),
        ({"state": np.zeros((3, 2), np.float32)}, r"state: expected float32 \[4, n\]"),
        ({"action": np.zeros((4, 2))}, "action: expected float32"),
        ({"images": {"corner4": [frame(0)] * 3}}, "images.corner4: expected 4 frames, got 3"),
        ({"images": {"corner4": [b"GIF89a"] * 4}}, "neither JPEG nor PNG"),
        ({"images": {"corner4": [frame(0)[:5]] * 4}}, "unreadable image"),
        ({"images": {"corner4": [frame(0), frame(0, (8, 8))] * 2}}, "different sizes"),
        ({"task": " "}, "instruction text"),
        ({"extra": {"return": float("nan")}}, "not JSON compliant"),
    ],
)
def test_an_episode_that_does_not_hold_together_is_refused(tmp_path, changes, complaint):
    with pytest.raises(ValueError, match=complaint):
        stage_episode(tmp_path, "k", make_episode(0, **changes))
    assert staged_keys(tmp_path) == set()


@pytest.mark.parametrize("key", ["", "../k", "a/b", ".hidden"])
def test_a_key_cannot_leave_the_staging_directory(tmp_path, key):
    with pytest.raises(ValueError, match="episode key"):
        stage_episode(tmp_path, key, make_episode(0))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_bit_of_a_frame(path: Path) -> None:
    content = bytearray(path.read_bytes())
    # The compressor keeps a frame's entropy-coded end as it is, and only that.
    content[content.index(frame(30)[-40:-20])] ^= 4
    path.write_bytes(bytes(content))


def edit_info(**changes):
    def edit(path: Path) -> None:
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return edit


@pytest.mark.parametrize(
    ("name", "damage", "complaint"),
    [
        ("data/chunk-000/file-000.parquet", truncate, "damaged"),
        ("data/chunk-000/file-000.parquet", Path.unlink, "missing"),
        ("data/chunk-000/file-000.parquet", lambda path: path.write_bytes(b""), "damaged"),
        ("meta/episodes/chunk-000/file-000.parquet", truncate, "damaged"),
        ("meta/tasks.parquet", truncate, "damaged"),
        ("meta/tasks.parquet", Path.unlink, "missing"),
        ("meta/stats.json", truncate, "damaged"),
        ("meta/stats.json", lambda path: path.write_text("[]"), "not a JSON object"),
        ("meta/info.json", truncate, "damaged"),
        ("meta/info.json", lambda path: path.write_bytes(b"\xff\xfe{"), "damaged"),
        ("meta/info.json", lambda path: path.write_text("3"), "not a JSON object"),
        ("meta/info.json", edit_info(features={}), "damaged"),
        ("meta/info.json", edit_info(codebase_version="v2.1"), r"'v2\.1', expected 'v3\.0'"),
        ("meta/info.json", edit_info(total_frames=23), "total_frames 23"),
        ("meta/info.json", Path.unlink, "half-written"),
    ],
)
def test_damage_is_told_in_one_line_on_opening(dataset, name, damage, complaint):
    damage(dataset / name)
    with pytest.raises(UsageError, match=complaint) as error:
        LeRobotDataset(dataset)
    assert str(dataset) in one_line(error)


def test_a_flipped_bit_in_a_frame_is_told_when_that_episode_is_read(dataset):
    path = dataset / "data/chunk-000/file-000.parquet"
    flip_a_bit_of_a_frame(path)
    opened = LeRobotDataset(dataset)
    with pytest.raises(UsageError, match="damaged") as error:
        opened.episode(3)
    assert str(path) in one_line(error)
    np.testing.assert_array_equal(opened.episode(2).state, np.full((4, 2), 2))


def test_a_damaged_staged_episode_is_named(tmp_path):
    path = stage_episode(tmp_path, "k0", make_episode(0))
    truncate(path)
    with pytest.raises(UsageError, match="collect it again") as error:
        read_staged(path)
    assert str(path) in one_line(error)
    with pytest.raises(UsageError, match="collect it again"):
        finalize_dataset(tmp_path, ["k0"], FACTS)


def test_a_missing_directory_and_one_that_is_no_dataset_are_told_apart(tmp_path):
    with pytest.raises(UsageError, match="no such dataset directory"):
        LeRobotDataset(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="not a dataset"):
        LeRobotDataset(tmp_path)


def test_a_dataset_with_videos_is_refused_in_words(dataset):
    path = dataset / "meta/info.json"
    info = json.loads(path.read_text())
    info["features"]["observation.images.corner4"]["dtype"] = "video"
    path.write_text(json.dumps(info))
    with pytest.raises(UsageError, match="stored as video"):
        LeRobotDataset(dataset)
