"""The decoded cache: built once, never half, and of exactly these cameras and this data."""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clients.lerobot_v3 import LeRobotDataset
from clients.lerobot_v3.layout import EXTRA_COLUMN
from policy.errors import UsageError
from trainer import cache as module
from trainer.cache import open_cache
from trainer.contract import cameras_of


@pytest.fixture
def data(make_dataset, tmp_path) -> LeRobotDataset:
    return LeRobotDataset(make_dataset(tmp_path / "data", [4, 3]))


def test_decoded_frames_are_those_of_the_dataset(data, numbers_of):
    cache = open_cache(data, cameras_of(data.facts))
    assert cache.images.shape == (7, 1, 8, 8, 3)
    assert (cache.num_frames, cache.num_episodes, cache.actions_per_frame) == (7, 2, 2)
    np.testing.assert_array_equal(numbers_of(cache.images[:, 0]), np.arange(7))
    np.testing.assert_array_equal(cache.actions[:, 0], np.arange(14))
    assert cache.episode_starts.tolist() == [0, 4, 7]
    assert cache.tasks == ("do task 0", "do task 1")
    assert cache.task_names == ("task0", "task1")


def test_frames_are_decoded_once_and_mapped_after_that(data, monkeypatch):
    open_cache(data, cameras_of(data.facts))
    monkeypatch.setattr(module, "_decode", lambda *_: pytest.fail("decoded again"))
    assert isinstance(open_cache(data, cameras_of(data.facts)).images, np.memmap)


def test_a_build_that_was_killed_leaves_nothing_that_looks_complete(data, monkeypatch, numbers_of):
    right, calls = module._decode, []

    def dies(encoded, camera):
        calls.append(1)
        if len(calls) > 3:
            raise KeyboardInterrupt
        return right(encoded, camera)

    monkeypatch.setattr(module, "_decode", dies)
    with pytest.raises(KeyboardInterrupt):
        open_cache(data, cameras_of(data.facts))
    monkeypatch.setattr(module, "_decode", right)
    np.testing.assert_array_equal(
        numbers_of(open_cache(data, cameras_of(data.facts)).images[:, 0]), np.arange(7)
    )


def test_two_runs_that_open_a_new_dataset_decode_it_once(data, monkeypatch, numbers_of, capsys):
    right, decoded = module._decode, []
    begun, go_on = threading.Event(), threading.Event()

    def held_up(encoded, camera):
        decoded.append(1)
        begun.set()
        assert go_on.wait(30)
        return right(encoded, camera)

    monkeypatch.setattr(module, "_decode", held_up)
    with ThreadPoolExecutor(2) as runs:
        first = runs.submit(open_cache, data, cameras_of(data.facts))
        assert begun.wait(30)
        second = runs.submit(open_cache, data, cameras_of(data.facts))
        wait([second], timeout=0.3)  # as long as it could begin to build, too
        go_on.set()
        for cache in (first.result(), second.result()):
            np.testing.assert_array_equal(numbers_of(cache.images[:, 0]), np.arange(7))
    assert len(decoded) == 7
    assert "another run is decoding data: waiting for it" in capsys.readouterr().out


def test_other_cameras_get_a_cache_of_their_own(data):
    small = tuple(camera.model_copy(update={"height": 4, "width": 4}) for camera in cameras_of(data.facts))
    assert open_cache(data, small).images.shape == (7, 1, 4, 4, 3)
    assert open_cache(data, cameras_of(data.facts)).images.shape == (7, 1, 8, 8, 3)


def test_other_data_in_the_same_place_get_a_cache_of_their_own(data, make_dataset, tmp_path):
    open_cache(data, cameras_of(data.facts))
    other = make_dataset(tmp_path / "other", [2, 5, 1])
    shutil.copytree(data.root / ".cache", other / ".cache")
    found = LeRobotDataset(other)
    assert open_cache(found, cameras_of(found.facts)).num_frames == 8


def test_a_full_disk_is_told_before_anything_is_decoded(data, monkeypatch):
    def full(descriptor, offset, length):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    monkeypatch.setattr(module, "_decode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(UsageError, match=r"\.cache.*No space left.*1,344 bytes"):
        open_cache(data, cameras_of(data.facts))
    assert not list((data.root / ".cache").glob("*.building"))


def test_a_file_system_that_cannot_reserve_is_written_all_the_same(data, monkeypatch):
    def cannot(descriptor, offset, length):
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "posix_fallocate", cannot)
    assert open_cache(data, cameras_of(data.facts)).num_frames == 7


def test_a_cache_that_cannot_be_made_is_told_in_one_line(data):
    (data.root / ".cache").write_text("in the way")
    with pytest.raises(UsageError, match=r"\.cache.*cannot be written"):
        open_cache(data, cameras_of(data.facts))


def change_column(root, table: str, name: str, change) -> None:
    """Rewrite a column of a dataset's tables, as only tools that are not ours would."""
    for path in (root / table).rglob("*.parquet"):
        rows = pq.read_table(path)
        field = rows.schema.field(name)
        values = pa.array(change(rows[name].to_pylist()), type=field.type)
        pq.write_table(rows.set_column(rows.schema.get_field_index(name), field, values), path)


@pytest.mark.parametrize(
    "damage", [lambda png: b"no image", lambda png: png[:-25]], ids=["noise", "truncated"]
)
def test_a_damaged_image_is_one_line_and_the_room_of_the_others_is_given_back(data, damage):
    def fifth(images):
        images[4]["bytes"] = damage(images[4]["bytes"])
        return images

    change_column(data.root, "data", "observation.images.front", fifth)
    found = LeRobotDataset(data.root)
    with pytest.raises(UsageError, match="data: an image of front in episode 1 is damaged"):
        open_cache(found, cameras_of(found.facts))
    assert not list((data.root / ".cache").glob("*.building"))


def test_a_dataset_without_episodes_is_one_line(data):
    for table in ("data", "meta/episodes"):
        shutil.rmtree(data.root / table)
    info = data.root / "meta" / "info.json"
    info.write_text(json.dumps(json.loads(info.read_text()) | {"total_episodes": 0, "total_frames": 0}))
    found = LeRobotDataset(data.root)
    with pytest.raises(UsageError, match="data: no episodes"):
        open_cache(found, cameras_of(found.facts))


def test_what_is_corrected_of_an_episode_is_what_is_trained_on(data):
    open_cache(data, cameras_of(data.facts))
    facts = [json.dumps({"metaworld_task": name, "demonstrated_from": 2}) for name in ("one", "two")]
    change_column(data.root, "meta/episodes", "tasks", lambda _: [["pick it up"], ["put it down"]])
    change_column(data.root, "meta/episodes", EXTRA_COLUMN, lambda _: facts)
    found = LeRobotDataset(data.root)
    cache = open_cache(found, cameras_of(found.facts))
    assert cache.tasks == ("pick it up", "put it down")
    assert cache.task_names == ("one", "two")
    assert cache.demonstrated_from.tolist() == [2, 2]
