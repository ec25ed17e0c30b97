"""`--feature-cache`: what a frozen backbone made of an observation, kept on disk and shared by all runs.

An entry's key is a hash over the backbone, its revision, number format, prompt and views, and over the images
themselves with their resolution and the instruction. Entries lie in shards (safetensors, 16 bits), which are written
under another name and renamed, never changed, and evicted as a whole when least recently used. So any number of
processes may read and write: no shard is ever half there, and one that vanishes is only a miss.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import time
import uuid
import zlib
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from policy.errors import UsageError
from policy.spec import BackboneSpec

_SHARD_BYTES = 16 * 2**20
_OPEN_SHARDS = 64
_TOUCH_S = 60.0  # how exactly the time of last use is kept
_ABANDONED_S = 3600.0  # a shard is written in less than a second
_SUFFIX, _BUILDING = ".safetensors", ".building"
_LARGEST = np.float32(np.finfo(np.float16).max)


@dataclass
class Counts:
    """What became of the look-ups of this process."""

    hits: int = 0
    misses: int = 0
    corrupt: int = 0  # shards with an entry that failed its checksum; what they held is computed again
    evicted: int = 0  # shards


def backbone_key(spec: BackboneSpec) -> bytes:
    """Hash over everything besides the observation that decides what is seen."""
    parts = spec.model_dump(mode="json", exclude={"name"})  # the same files elsewhere are the same backbone
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).digest()


class DiskFeatures:
    """A `FeatureStore` in a directory. One thread uses it; other processes may have the same directory open.

    Args:
        directory: made if need be; it holds nothing but shards.
        spec: of a frozen backbone.
        max_bytes: of all shards, those of other backbones too.

    Raises:
        UsageError: a place that cannot be written to, also in `put` and `flush`.
    """

    def __init__(self, directory: Path, spec: BackboneSpec, max_bytes: int) -> None:
        self.directory, self.counts = directory, Counts()
        self._backbone, self._tokens = backbone_key(spec), spec.tokens
        self._max_bytes = max_bytes
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unusable(error) from None
        self._index: dict[str, Path] = {}
        self._known: set[Path] = set()
        self._open: OrderedDict[Path, Any] = OrderedDict()
        self._touched: dict[Path, float] = {}
        self._pending: dict[str, np.ndarray] = {}
        self._pending_bytes = 0
        self._scan()

    def get(self, images: np.ndarray, instruction: str) -> np.ndarray | None:
        """uint8 [V, H, W, 3] and the text -> float32 [T, W], or None where it must be computed."""
        key = self._key(images, instruction)
        found = self._pending.get(key)
        if found is None and key in self._index:
            found = self._read(key)
        if found is None:
            self.counts.misses += 1
            return None
        self.counts.hits += 1
        return self._padded(found)

    def put(self, images: np.ndarray, instruction: str, features: np.ndarray) -> np.ndarray:
        """Keep float32 [T, W] without its padding, on disk once there is a shard of it; returns what `get` will give.

        A run so learns from the same 16-bit features whether they were computed or read.
        """
        length = int(np.flatnonzero(features.any(1)).max(initial=-1)) + 1
        kept = np.clip(features[:length], -_LARGEST, _LARGEST).astype(np.float16)
        self._pending[self._key(images, instruction)] = kept
        self._pending_bytes += kept.nbytes
        if self._pending_bytes >= _SHARD_BYTES:
            self.flush()
        return self._padded(kept)

    def flush(self) -> None:
        """Write what is only in memory, make room, and learn what other processes wrote."""
        if self._pending:
            checksums = {key: _checksum(value) for key, value in self._pending.items()}
            path = self.directory / f"{uuid.uuid4().hex}{_SUFFIX}"
            building = path.with_suffix(_BUILDING)
            try:
                building.write_bytes(save(self._pending, metadata=checksums))
                building.replace(path)
            except OSError as error:
                building.unlink(missing_ok=True)
                raise self._unusable(error) from None
            self._pending, self._pending_bytes = {}, 0
        self._make_room()
        self._scan()

    def line(self) -> str:
        """For people."""
        counts = self.counts
        return (
            f"feature cache {self.directory}: {counts.hits} read, {counts.misses} computed, {counts.corrupt} corrupt, "
            f"{counts.evicted} shards evicted"
        )

    def _unusable(self, error: OSError) -> UsageError:
        return UsageError(f"--feature-cache {self.directory}: {error.strerror or error}")

    def _key(self, images: np.ndarray, instruction: str) -> str:
        digest = hashlib.sha256(self._backbone)
        digest.update(f"{images.shape} {len(instruction)} {instruction}".encode())
        digest.update(np.ascontiguousarray(images).data)
        return digest.hexdigest()

    def _padded(self, kept: np.ndarray) -> np.ndarray:
        padded = np.zeros((self._tokens, kept.shape[1]), np.float32)
        padded[: len(kept)] = kept
        return padded

    def _scan(self) -> None:
        """Take in shards that came and forget those that went."""
        there = set(self.directory.glob(f"*{_SUFFIX}"))
        gone = self._known - there
        if gone:
            self._index = {key: path for key, path in self._index.items() if path not in gone}
        for path in gone & set(self._open):  # on disk it lasts as long as somebody holds it
            del self._open[path]
        for path in there - self._known:
            shard = self._shard(path)
            if shard is not None:
                self._index.update(dict.fromkeys(shard.keys(), path))
        self._known = there

    def _shard(self, path: Path) -> Any:
        """The opened shard; None where it is gone or damaged."""
        if path in self._open:
            self._open.move_to_end(path)
            return self._open[path]
        try:
            shard = safe_open(path, framework="numpy")
        except FileNotFoundError:
            return None
        except (SafetensorError, OSError):
            self._damaged(path)
            return None
        self._open[path] = shard
        if len(self._open) > _OPEN_SHARDS:
            self._open.popitem(last=False)
        return shard

    def _read(self, key: str) -> np.ndarray | None:
        path = self._index[key]
        shard = self._shard(path)
        if shard is None:
            self._index.pop(key, None)
            return None
        value = shard.get_tensor(key)
        if _checksum(value) != (shard.metadata() or {}).get(key):
            self._damaged(path)
            return None
        now = time.monotonic()
        if now - self._touched.get(path, -_TOUCH_S) >= _TOUCH_S:
            self._touched[path] = now
            with contextlib.suppress(OSError):  # gone, or somebody else's
                os.utime(path)
        return value

    def _damaged(self, path: Path) -> None:
        """Trust nothing that it holds."""
        self.counts.corrupt += 1
        path.unlink(missing_ok=True)
        self._open.pop(path, None)
        self._index = {key: where for key, where in self._index.items() if where != path}

    def _make_room(self) -> None:
        """Evict the shards used longest ago; one process at a time, and who finds another at it leaves it to that."""
        with (self.directory / ".lock").open("a") as lock:
            with contextlib.suppress(OSError):
                os.fchmod(lock.fileno(), 0o666)  # other users of the directory take turns too
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            for path in self.directory.glob(f"*{_BUILDING}"):
                with contextlib.suppress(OSError):
                    if time.time() - path.stat().st_mtime > _ABANDONED_S:  # by a process that was killed
                        path.unlink()
            found = []
            for path in self.directory.glob(f"*{_SUFFIX}"):
                with contextlib.suppress(FileNotFoundError):
                    state = path.stat()
                    found.append((state.st_mtime_ns, state.st_size, path))
            size = sum(bytes_ for _, bytes_, _ in found)
            for _, bytes_, path in sorted(found):
                if size <= self._max_bytes:
                    break
                path.unlink(missing_ok=True)
                self._open.pop(path, None)
                self.counts.evicted += 1
                size -= bytes_


def _checksum(value: np.ndarray) -> str:
    return f"{zlib.crc32(np.ascontiguousarray(value).data):08x} {list(value.shape)}"
