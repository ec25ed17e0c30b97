"""A dataset read back is what was collected, laid out as LeRobotDataset v3.0 asks."""

from __future__ import annotations

import io
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from clients.lerobot_v3 import (
    DatasetFacts,
    EpisodeArrays,
    LeRobotDataset,
    dataset_hash,
    finalize_dataset,
    read_staged,
    stage_episode,
    staged_keys,
)
from policy.errors import UsageError

FACTS = DatasetFacts(
    cameras={"corner4": (12, 16), "topview": (8, 8)},
    state_names=("x", "y", "z", "gripper"),
    action_names=("dx", "dy"),
    environment_state_names=("goal",),
    fps=20,
    control_rate_hz=80.0,
    actions_per_frame=4,
    robot_type="metaworld",
    free={"command": "tinyvla collect --seed 3"},
)


def encoded(rng: np.random.Generator, size: tuple[int, int], kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(buffer, kind)
    return buffer.getvalue()


def make_episode(seed: int, length: int = 5, facts: DatasetFacts = FACTS) -> EpisodeArrays:
    rng = np.random.default_rng(seed)
    kinds = {"corner4": "JPEG", "topview": "PNG"}
    environment = len(facts.environment_state_names)
    per_frame = facts.actions_per_frame * facts.action_dim
    return EpisodeArrays(
        task=f"reach goal {seed % 3}",
        images={
            camera: [encoded(rng, size, kinds[camera]) for _ in range(length)]
            for camera, size in facts.cameras.items()
        },
        state=rng.normal(size=(length, len(facts.state_names))).astype(np.float32),
        action=rng.normal(size=(length, per_frame)).astype(np.float32),
        environment_state=rng.normal(size=(length, environment)).astype(np.float32) if environment else None,
        executed_action=rng.random((length, per_frame), np.float32) if facts.executed_actions else None,
        extra={"metaworld_task": "reach-v3", "seed": seed, "success": True, "return": 3.2},
    )


def make_dataset(root: Path, episodes: list[EpisodeArrays], facts: DatasetFacts = FACTS, **options) -> Path:
    keys = [f"reach-v3-{i}" for i in range(len(episodes))]
    for key, episode in zip(keys, episodes, strict=True):
        stage_episode(root, key, episode)
    finalize_dataset(root, keys, facts, **options)
    return root


def assert_same(read: EpisodeArrays, written: EpisodeArrays) -> None:
    assert read.task == written.task
    assert dict(read.extra) == dict(written.extra)
    assert {name: list(frames) for name, frames in read.images.items()} == dict(written.images)
    assert read.arrays().keys() == written.arrays().keys()
    for name, array in written.arrays().items():
        assert read.arrays()[name].dtype == np.float32
        np.testing.assert_array_equal(read.arrays()[name], array)


def test_episodes_come_back_as_they_were_staged(tmp_path):
    episodes = [make_episode(seed, length=3 + seed) for seed in range(4)]
    dataset = LeRobotDataset(make_dataset(tmp_path, episodes))
    assert dataset.facts == FACTS
    assert (dataset.num_episodes, dataset.num_frames, dataset.fps) == (4, 3 + 4 + 5 + 6, 20.0)
    assert dataset.tasks == ["reach goal 0", "reach goal 1", "reach goal 2"]
    for read, written in zip(dataset.episodes(), episodes, strict=True):
        assert_same(read, written)


def test_a_staged_episode_reads_back_without_a_dataset(tmp_path):
    episode = make_episode(7)
    assert_same(read_staged(stage_episode(tmp_path, "k", episode)), episode)
    assert staged_keys(tmp_path) == {"k"}


def test_vectors_of_length_one_and_no_cameras_come_back(tmp_path):
    facts = DatasetFacts(cameras={}, state_names=("x",), action_names=("dx",), fps=10, control_rate_hz=10)
    episode = make_episode(0, facts=facts)
    dataset = LeRobotDataset(make_dataset(tmp_path, [episode], facts))
    assert_same(dataset.episode(0), episode)
    assert dataset.episode(0).environment_state is None


def test_what_was_executed_is_a_feature_beside_what_was_demonstrated(tmp_path):
    facts = replace(FACTS, executed_actions=True)
    episode = make_episode(0, facts=facts)
    dataset = LeRobotDataset(make_dataset(tmp_path / "both", [episode], facts))
    assert dataset.facts == facts
    assert_same(dataset.episode(0), episode)
    assert dataset.info["features"]["executed_action"] == dataset.info["features"]["action"]
    with pytest.raises(UsageError, match="executed_action: expected 8, got 0"):
        make_dataset(tmp_path / "missing", [make_episode(0)], facts)


def test_only_the_asked_cameras_are_read(tmp_path):
    dataset = LeRobotDataset(make_dataset(tmp_path, [make_episode(0)]))
    assert list(dataset.episode(0, cameras=["topview"]).images) == ["topview"]
    assert dataset.episode(0, cameras=[]).images == {}
    with pytest.raises(UsageError, match="no camera 'wrist'"):
        dataset.episode(0, cameras=["wrist"])
    with pytest.raises(IndexError):
        dataset.episode(1)


def test_info_and_data_columns_are_those_of_the_format(tmp_path):
    make_dataset(tmp_path, [make_episode(seed) for seed in range(2)])
    info = json.loads((tmp_path / "meta/info.json").read_text())
    assert info["codebase_version"] == "v3.0"
    assert info["data_path"] == "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"]) == (2, 10, 2)
    assert info["splits"] == {"train": "0:2"}
    assert info["fps"] == 20
    assert isinstance(info["fps"], int)
    assert info["features"]["observation.images.corner4"] == {
        "dtype": "image",
        "shape": [12, 16, 3],
        "names": ["height", "width", "channels"],
    }
    assert info["features"]["action"]["shape"] == [8]
    assert info["features"]["action"]["names"][:3] == ["dx.0", "dy.0", "dx.1"]
    assert info["tinyvla"]["actions_per_frame"] == 4
    assert info["tinyvla"]["command"] == "tinyvla collect --seed 3"

    table = pq.read_table(tmp_path / "data/chunk-000/file-000.parquet")
    assert table.column_names == list(info["features"])
    assert table["index"].to_pylist() == list(range(10))
    assert table["frame_index"].to_pylist() == [0, 1, 2, 3, 4] * 2
    np.testing.assert_allclose(table["timestamp"].to_numpy()[:5], np.arange(5) / 20, rtol=1e-6)
    assert table["observation.images.topview"][1]["path"].as_py() == "frame-000001.png"
    described = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert described["observation.images.corner4"] == {"_type": "Image"}
    assert described["action"]["length"] == 8
    assert described["index"] == {"dtype": "int64", "_type": "Value"}


def test_episodes_table_has_the_columns_lerobot_looks_up(tmp_path):
    make_dataset(tmp_path, [make_episode(seed) for seed in range(3)])
    row = pq.read_table(tmp_path / "meta/episodes/chunk-000/file-000.parquet").to_pylist()[2]
    expected = {"episode_index": 2, "tasks": ["reach goal 2"], "length": 5}
    expected |= {"dataset_from_index": 10, "dataset_to_index": 15}
    expected |= {"data/chunk_index": 0, "data/file_index": 0}
    expected |= {"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0}
    assert {key: row[key] for key in expected} == expected
    assert np.shape(row["stats/observation.images.corner4/mean"]) == (3, 1, 1)
    assert np.shape(row["stats/action/q99"]) == (8,)
    assert row["stats/timestamp/count"] == [5]


def test_pandas_reads_the_texts_as_the_index_of_the_tasks(tmp_path):
    import pandas

    make_dataset(tmp_path, [make_episode(seed) for seed in (2, 0, 1, 2)])
    tasks = pandas.read_parquet(tmp_path / "meta/tasks.parquet")
    assert list(tasks.columns) == ["task_index"]
    assert list(tasks.index) == ["reach goal 2", "reach goal 0", "reach goal 1"]
    assert tasks.iloc[1].name == "reach goal 0"
    assert tasks.loc["reach goal 1"].task_index == 2


def test_tasks_table_says_which_column_is_the_index(tmp_path):
    make_dataset(tmp_path, [make_episode(seed) for seed in (2, 0)])
    table = pq.read_table(tmp_path / "meta/tasks.parquet")
    assert table.column_names == ["task_index", "__index_level_0__"]
    assert table["__index_level_0__"].to_pylist() == ["reach goal 2", "reach goal 0"]
    assert json.loads(table.schema.metadata[b"pandas"])["index_columns"] == ["__index_level_0__"]


def test_the_same_input_gives_the_same_bytes(tmp_path):
    episodes = [make_episode(seed) for seed in range(4)]
    first = make_dataset(tmp_path / "a", episodes, data_files_size_in_mb=0.01)
    # Collected in another order by parallel workers; only the order of the keys counts.
    keys = [f"reach-v3-{i}" for i in range(4)]
    for i in (3, 1, 0, 2):
        stage_episode(tmp_path / "b", keys[i], episodes[i])
    finalize_dataset(tmp_path / "b", keys, FACTS, data_files_size_in_mb=0.01)
    files = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert len(files) > 5
    for name in files:
        assert (first / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    assert dataset_hash(first) == dataset_hash(tmp_path / "b")


def test_the_hash_tells_one_changed_frame(tmp_path):
    episodes = [make_episode(seed) for seed in range(2)]
    make_dataset(tmp_path / "a", episodes)
    other = make_episode(1)
    other.action[2, 3] += 1e-3
    make_dataset(tmp_path / "b", [episodes[0], other])
    assert dataset_hash(tmp_path / "a") != dataset_hash(tmp_path / "b")


def test_the_hash_ignores_what_lies_beside_the_dataset(tmp_path):
    make_dataset(tmp_path, [make_episode(0)], keep_staging=True)
    before = dataset_hash(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    stage_episode(tmp_path, "another", make_episode(1))
    assert dataset_hash(tmp_path) == before


@pytest.mark.parametrize(("count", "chunks_size"), [(25, 1000), (25, 2), (1005, 1)])
def test_order_is_by_number_and_not_by_text_beyond_ten_and_a_thousand(
    tmp_path, monkeypatch, count, chunks_size
):
    # Durability is not what is tested here, and thousands of syncs are slow on some disks.
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    facts = DatasetFacts(cameras={}, state_names=("x", "y"), action_names=("dx",), fps=10, control_rate_hz=10)
    episodes = [
        EpisodeArrays("t", {}, np.full((1, 2), i, np.float32), np.full((1, 1), i, np.float32))
        for i in range(count)
    ]
    # A limit that every episode exceeds: one file each.
    make_dataset(tmp_path, episodes, facts, data_files_size_in_mb=1e-6, chunks_size=chunks_size)
    assert len(list((tmp_path / "data").glob("*/*.parquet"))) == count
    dataset = LeRobotDataset(tmp_path)
    assert [int(episode.state[0, 0]) for episode in dataset.episodes()] == list(range(count))
    assert [int(episode.action[0, 0]) for episode in dataset.episodes()] == list(range(count))


def test_many_episodes_share_a_file_and_each_has_its_own_row_group(tmp_path):
    episodes = [make_episode(seed, length=4) for seed in range(12)]
    dataset = LeRobotDataset(make_dataset(tmp_path, episodes, data_files_size_in_mb=0.03))
    files = sorted((tmp_path / "data").glob("*/*.parquet"))
    assert 1 < len(files) < 12
    groups = 0
    for path in files:
        metadata = pq.read_metadata(path)
        assert path.stat().st_size < 0.03 * 1024**2 * 1.5
        assert all(metadata.row_group(i).num_rows == 4 for i in range(metadata.num_row_groups))
        groups += metadata.num_row_groups
    assert groups == 12
    assert_same(dataset.episode(11), episodes[11])


def test_a_dataset_of_others_without_our_facts_has_one_action_per_frame(tmp_path):
    make_dataset(tmp_path, [make_episode(0)])
    path = tmp_path / "meta/info.json"
    info = json.loads(path.read_text())
    del info["tinyvla"]
    path.write_text(json.dumps(info))
    facts = LeRobotDataset(tmp_path).facts
    assert (facts.actions_per_frame, facts.action_dim, facts.control_rate_hz) == (1, 8, 20.0)


def named_by_others(root: Path, names: dict[str, str]) -> Path:
    """The dataset with other column names."""
    for path in [root / "meta/info.json", root / "meta/stats.json"]:
        text = path.read_text()
        for ours, theirs in names.items():
            text = text.replace(f'"{ours}"', f'"{theirs}"')
        path.write_text(text)
    for path in (root / "data").glob("*/*.parquet"):
        table = pq.read_table(path)
        pq.write_table(table.rename_columns([names.get(name, name) for name in table.column_names]), path)
    return root


@pytest.mark.parametrize("column", ["observation.image", "image"])
def test_cameras_whose_columns_others_named_are_read(tmp_path, column):
    facts = replace(FACTS, cameras={"corner4": (12, 16)})
    written = make_episode(0, facts=facts)
    names = {"observation.images.corner4": column}
    dataset = LeRobotDataset(named_by_others(make_dataset(tmp_path, [written], facts), names))
    assert dict(dataset.facts.cameras) == {"image": (12, 16)}
    assert dataset.facts.features() == dataset.info["features"]
    assert list(dataset.episode(0).images["image"]) == written.images["corner4"]
    assert dataset.facts.column_of("image") in dataset.stats


def test_two_columns_of_one_camera_are_told(tmp_path):
    names = {"observation.images.corner4": "image", "observation.images.topview": "observation.image"}
    root = named_by_others(make_dataset(tmp_path, [make_episode(0)]), names)
    with pytest.raises(UsageError, match="both of a camera named 'image'"):
        LeRobotDataset(root)


def test_progress_counts_every_episode(tmp_path):
    seen: list[tuple[int, int]] = []
    make_dataset(tmp_path, [make_episode(s) for s in range(3)], progress=lambda *now: seen.append(now))
    assert seen == [(1, 3), (2, 3), (3, 3)]
