"""The feature cache: nothing of another content, nothing damaged, never too large, however many write to it."""

from __future__ import annotations

import dataclasses
import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from policy.errors import UsageError
from policy.spec import BackboneSpec
from trainer import feature_store
from trainer.feature_store import DiskFeatures
from trainer.settings import check_flags
from trainer.train import Trainer

SPEC = BackboneSpec(
    name="some/model", sha256="0" * 64, model_type="llava", views=("front",), prompt="do {instruction}", tokens=6,
    width=4, dtype="bf16",
)  # fmt: skip
ROOM = 10**9


def picture(number: int, size: int = 8) -> np.ndarray:
    return np.full((1, size, size, 3), number, np.uint8)


def features(number: int, rows: int = 6) -> np.ndarray:
    """Values that 16 bits hold, with padding at the end."""
    made = np.zeros((6, 4), np.float32)
    made[:rows] = np.arange(rows * 4).reshape(rows, 4) + 1 + number
    return made


def opened(directory, spec=SPEC, max_bytes=ROOM) -> DiskFeatures:
    return DiskFeatures(directory, spec, max_bytes)


def test_what_was_put_comes_back_from_memory_and_from_disk(tmp_path):
    store = opened(tmp_path)
    assert store.get(picture(1), "go") is None
    given = store.put(picture(1), "go", features(1, rows=4))
    for reader in (store, opened(tmp_path)):
        if reader is store:
            np.testing.assert_array_equal(reader.get(picture(1), "go"), features(1, rows=4))
            store.flush()
    found = opened(tmp_path).get(picture(1), "go")
    np.testing.assert_array_equal(found, features(1, rows=4))
    np.testing.assert_array_equal(found, given)
    assert found.dtype == np.float32
    assert (store.counts.hits, store.counts.misses, store.counts.corrupt) == (1, 1, 0)


def test_values_are_rounded_before_they_are_first_used_and_kept_finite(tmp_path):
    """A run whose features were computed learns from the same ones as a run that read them."""
    store = opened(tmp_path)
    fine = features(0) + np.float32(1e-5)
    fine[0, 0] = 1e9
    given = store.put(picture(1), "go", fine)
    store.flush()
    np.testing.assert_array_equal(opened(tmp_path).get(picture(1), "go"), given)
    assert np.isfinite(given).all()
    assert np.any(given != fine)


@pytest.mark.parametrize(
    "changes",
    [{"sha256": "1" * 64}, {"revision": "abc"}, {"prompt": "now {instruction}"}, {"dtype": "fp32"}, {"tokens": 7},
     {"views": ("side",)}],
)  # fmt: skip
def test_another_backbone_revision_prompt_format_or_view_finds_nothing(tmp_path, changes):
    store = opened(tmp_path)
    store.put(picture(1), "go", features(1))
    store.flush()
    other = SPEC.model_copy(update=changes)
    assert opened(tmp_path, other).get(picture(1), "go") is None
    moved = SPEC.model_copy(update={"name": "/another/place"})
    assert opened(tmp_path, moved).get(picture(1), "go") is not None


def test_another_image_resolution_or_text_finds_nothing(tmp_path):
    store = opened(tmp_path)
    store.put(picture(1), "go", features(1))
    changed = picture(1)
    changed[0, 7, 7, 2] += 1
    assert store.get(changed, "go") is None
    assert store.get(picture(1).reshape(1, 4, 16, 3), "go") is None  # the same bytes in another shape
    assert store.get(picture(1), "stop") is None
    assert store.get(picture(1), "go") is not None


def one_shard(tmp_path, entries: int = 3):
    store = opened(tmp_path)
    for number in range(entries):
        store.put(picture(number), "go", features(number))
    store.flush()
    (path,) = tmp_path.glob("*.safetensors")
    return path


def test_a_flipped_bit_is_found_counted_and_computed_again(tmp_path):
    path = one_shard(tmp_path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    store = opened(tmp_path)
    found = [store.get(picture(number), "go") for number in range(3)]
    assert store.counts.corrupt == 1
    assert any(value is None for value in found)
    for number, value in enumerate(found):
        if value is not None:
            np.testing.assert_array_equal(value, features(number))
        store.put(picture(number), "go", features(number))
    store.flush()
    again = opened(tmp_path)
    for number in range(3):
        np.testing.assert_array_equal(again.get(picture(number), "go"), features(number))
    assert again.counts.corrupt == 0


@pytest.mark.parametrize("keep", [0, 4, 100])
def test_a_shard_that_was_cut_short_is_counted_and_removed(tmp_path, keep):
    path = one_shard(tmp_path)
    path.write_bytes(path.read_bytes()[:keep])
    store = opened(tmp_path)
    assert store.counts.corrupt == 1
    assert store.get(picture(0), "go") is None
    assert not path.exists()


def test_a_shard_that_another_process_evicted_is_only_a_miss(tmp_path):
    path = one_shard(tmp_path)
    store = opened(tmp_path)
    store._open.clear()
    path.unlink()
    assert store.get(picture(0), "go") is None
    assert store.counts.corrupt == 0


def test_what_was_used_longest_ago_is_evicted_first(tmp_path):
    sizes = []
    for number in range(3):
        store = opened(tmp_path)
        store.put(picture(number), "go", features(number))
        store.flush()
        sizes = [path.stat().st_size for path in tmp_path.glob("*.safetensors")]
    for age, path in enumerate(
        sorted(tmp_path.glob("*.safetensors"), key=lambda path: path.stat().st_mtime_ns)
    ):
        os.utime(path, (1000 + age, 1000 + age))
    assert opened(tmp_path).get(picture(0), "go") is not None  # the oldest, and now the last used
    full = opened(tmp_path, max_bytes=sum(sizes))
    full.put(picture(3), "go", features(3))
    full.flush()
    assert full.counts.evicted == 1
    kept = [opened(tmp_path).get(picture(number), "go") is not None for number in range(4)]
    assert kept == [True, False, True, True]
    assert sum(path.stat().st_size for path in tmp_path.glob("*.safetensors")) <= sum(sizes)


_WRITER = """
import sys
from pathlib import Path
import numpy as np
from policy.spec import BackboneSpec
from trainer.feature_store import DiskFeatures

store = DiskFeatures(Path(sys.argv[1]), BackboneSpec.model_validate_json(sys.argv[3]), 10**9)
sys.stdin.read()
for number in range(int(sys.argv[2]), int(sys.argv[2]) + 40):
    features = np.zeros((6, 4), np.float32)
    features[:] = np.arange(24).reshape(6, 4) + 1 + number
    store.put(np.full((1, 8, 8, 3), number, np.uint8), "go", features)
    store.flush()
"""


def test_several_processes_may_write_at_once(tmp_path):
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(tmp_path), str(first), SPEC.model_dump_json()],
            stdin=subprocess.PIPE,
        )
        for first in (0, 20, 60)
    ]
    for writer in writers:
        writer.stdin.close()
    assert [writer.wait(timeout=600) for writer in writers] == [0, 0, 0]
    store = opened(tmp_path)
    for number in range(100):
        np.testing.assert_array_equal(store.get(picture(number), "go"), features(number))
    assert store.counts.corrupt == 0
    assert not list(tmp_path.glob("*.building"))


def test_a_process_sees_what_another_wrote_since(tmp_path):
    early, late = opened(tmp_path), opened(tmp_path)
    late.put(picture(1), "go", features(1))
    late.flush()
    assert early.get(picture(1), "go") is None
    early.flush()
    assert early.get(picture(1), "go") is not None


def test_many_shards_stay_readable_though_few_are_kept_open(tmp_path, monkeypatch):
    monkeypatch.setattr(feature_store, "_OPEN_SHARDS", 2)
    for number in range(5):
        store = opened(tmp_path)
        store.put(picture(number), "go", features(number))
        store.flush()
    store = opened(tmp_path)
    for number in (4, 0, 2, 1, 3, 0):
        np.testing.assert_array_equal(store.get(picture(number), "go"), features(number))


def test_what_another_process_evicted_is_not_kept_on_disk_by_holding_it(tmp_path):
    path = one_shard(tmp_path)
    store = opened(tmp_path)
    assert store.get(picture(0), "go") is not None
    path.unlink()
    store.flush()
    maps = Path("/proc/self/maps")
    assert not maps.exists() or str(path) not in maps.read_text()


def test_what_a_killed_writer_left_is_removed_and_what_one_is_writing_is_not(tmp_path):
    killed, writing = tmp_path / "killed.building", tmp_path / "writing.building"
    for path in (killed, writing):
        path.write_bytes(b"half a shard")
    os.utime(killed, (1000, 1000))
    opened(tmp_path).flush()
    assert (killed.exists(), writing.exists()) == (False, True)


def test_a_place_that_cannot_be_written_to_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UsageError, match=f"--feature-cache {place}: "):
            opened(place)

    def full(path, data):
        path.touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    store = opened(tmp_path / "full")
    store.put(picture(0), "go", features(0))
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UsageError, match=r"--feature-cache .*full: No space left on device"):
        store.flush()
    assert not list((tmp_path / "full").iterdir())


def test_another_user_s_shards_are_read_and_room_is_made_in_turns(tmp_path, monkeypatch):
    one_shard(tmp_path)
    assert (tmp_path / ".lock").stat().st_mode & 0o777 == 0o666  # whoever was first, and whatever their umask

    def not_yours(path):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "utime", not_yours)
    assert opened(tmp_path).get(picture(0), "go") is not None


@pytest.fixture
def cached(make_args, backbone_at, tmp_path):
    return make_args(
        backbone=str(backbone_at()), shift=0, feature_cache=tmp_path / "features", epochs=2, name="cached"
    )


def test_a_run_looks_at_every_image_once_and_the_next_run_at_none_with_the_same_result(
    cached, tmp_path, monkeypatch
):
    from policy.networks.backbone.model import Backbone

    looked = []
    right = Backbone._run
    monkeypatch.setattr(
        Backbone, "_run", lambda self, images, *rest: looked.append(len(images)) or right(self, images, *rest)
    )
    first = Trainer(cached)
    first.run()
    assert sum(looked) == 48  # six episodes of eight frames, training and held out, in two epochs
    assert "48 computed, 0 corrupt" in (cached.out / "log.txt").read_text()
    looked.clear()
    second = Trainer(dataclasses.replace(cached, out=tmp_path / "second"))
    second.run()
    assert not looked
    for name, tensor in first.network.state_dict().items():
        torch.testing.assert_close(second.network.state_dict()[name], tensor, atol=0, rtol=0)


def test_without_the_flag_nothing_is_read_or_written(cached, tmp_path):
    Trainer(cached).run()
    plain = Trainer(dataclasses.replace(cached, feature_cache=None, out=tmp_path / "plain"))
    assert plain.network.encoder.backbone.store is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shift": 3}, "add --shift 0"),
        ({"lora_rank": 2}, "drop --lora-rank"),
        ({"backbone": None}, "--feature-cache is for a backbone"),
        ({"feature_cache_gb": 0.0}, "--feature-cache-gb must be above 0"),
    ],
)
def test_a_cache_that_could_not_help_is_refused(cached, changes, message):
    with pytest.raises(UsageError, match=message):
        check_flags(dataclasses.replace(cached, **changes))
