"""Staged episodes become a LeRobotDataset v3.0, one episode in memory at a time, `meta/info.json` last."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from clients.lerobot_v3 import layout, stats
from clients.lerobot_v3.atomic import sync_directory, write_json_atomically
from clients.lerobot_v3.columns import data_schema, image_column, vector_column
from clients.lerobot_v3.facts import INDEX_FEATURES, DatasetFacts
from clients.lerobot_v3.rolling import RollingParquet
from clients.lerobot_v3.staging import StagedEpisode, load_staged, staged_keys, staged_path
from clients.lerobot_v3.tasks import write_tasks
from policy.errors import UsageError

# A row of the episodes table holds some 90 columns: one row group per episode would be mostly footer.
_EPISODES_PER_ROW_GROUP = 100


def finalize_dataset(
    root: Path,
    keys_in_order: Sequence[str],
    facts: DatasetFacts,
    *,
    keep_staging: bool = False,
    progress: Callable[[int, int], None] | None = None,
    data_files_size_in_mb: float = layout.DATA_FILES_SIZE_IN_MB,
    chunks_size: int = layout.CHUNKS_SIZE,
) -> None:
    """Write `data/` and `meta/` from the staged episodes, in the order given; rerun it after a kill.

    The same episodes and facts give the same bytes. `progress(done, total)` is called after each episode.

    Raises:
        UsageError: the dataset is already complete, an episode is missing, damaged or of another shape.
    """
    root = Path(root)
    _check_request(root, keys_in_order)
    _remove_unfinished(root)
    running, tasks = stats.RunningStats(), dict[str, int]()
    frames = 0

    sizes: dict[str, Any] = {"size_in_mb": data_files_size_in_mb, "chunks_size": chunks_size}
    features = facts.features()
    numbers = [key for key, feature in features.items() if feature["dtype"] != "image"]
    data = RollingParquet(
        root, layout.DATA_PATH, **sizes, statistics_of=list(INDEX_FEATURES), dictionary_of=numbers
    )
    episodes = _EpisodeTable(root, sizes)
    try:
        for episode_index, key in enumerate(keys_in_order):
            path = staged_path(root, key)
            staged = load_staged(path)
            _check_shape(staged, facts, path)
            task_index = tasks.setdefault(staged.episode.task, len(tasks))
            indices = _index_columns(len(staged.episode), facts.fps, episode_index, frames, task_index)
            place = data.place_for(len(staged.episode))
            data.write(_data_table(staged, indices, data_schema(features)))
            of = {**staged.stats, **{name: stats.vector_stats(values) for name, values in indices.items()}}
            of = {name: of[name] for name in features}
            running.add(of)
            episodes.add(_episode_row(staged, episode_index, frames, place, of))
            frames += len(staged.episode)
            if progress is not None:
                progress(episode_index + 1, len(keys_in_order))
        data.close()
        episodes.close()
    finally:
        data.abandon()
        episodes.abandon()

    write_tasks(root / layout.TASKS_PATH, list(tasks))
    write_json_atomically(root / layout.STATS_PATH, stats.to_json(running.result()))
    for directory in (root / "data", root / "meta", root):
        sync_directory(directory)
    totals = {"episodes": len(keys_in_order), "frames": frames, "tasks": len(tasks)}
    info = _info(facts, totals, data_files_size_in_mb, chunks_size)
    write_json_atomically(root / layout.INFO_PATH, info)
    if not keep_staging:
        shutil.rmtree(root / layout.STAGING_DIR)


def _check_request(root: Path, keys: Sequence[str]) -> None:
    if layout.is_complete(root):
        raise UsageError(f"{root}: the dataset is already complete; choose another directory")
    if not keys:
        raise UsageError(f"{root}: no episodes to write")
    if len(set(keys)) != len(keys):
        raise ValueError("an episode key is given twice")
    missing = sorted(set(keys) - staged_keys(root))
    if missing:
        raise UsageError(
            f"{root}: {len(missing)} episodes are not collected yet, the first is {missing[0]!r}"
        )


def _remove_unfinished(root: Path) -> None:
    """Drop files of a finalize that was killed; only names of the format, never a whole directory."""
    for path in layout.dataset_files(root):
        path.unlink()


def _check_shape(staged: StagedEpisode, facts: DatasetFacts, path: Path) -> None:
    episode = staged.episode
    environment = episode.environment_state
    found = {
        "cameras": dict(staged.image_sizes),
        "state": episode.state.shape[1],
        "action": episode.action.shape[1],
        "environment_state": 0 if environment is None else environment.shape[1],
    }
    expected = {
        "cameras": {camera: tuple(size) for camera, size in facts.cameras.items()},
        "state": len(facts.state_names),
        "action": facts.actions_per_frame * facts.action_dim,
        "environment_state": len(facts.environment_state_names),
    }
    for part, wanted in expected.items():
        if found[part] != wanted:
            raise UsageError(f"{path}: {part}: expected {wanted}, got {found[part]}")


def _index_columns(
    length: int, fps: float, episode_index: int, first_frame: int, task_index: int
) -> dict[str, np.ndarray]:
    frame_index = np.arange(length, dtype=np.int64)
    return {
        "timestamp": (frame_index / fps).astype(np.float32),
        "frame_index": frame_index,
        "episode_index": np.full(length, episode_index, dtype=np.int64),
        "index": frame_index + first_frame,
        "task_index": np.full(length, task_index, dtype=np.int64),
    }


def _data_table(staged: StagedEpisode, indices: dict[str, np.ndarray], schema: pa.Schema) -> pa.Table:
    episode = staged.episode
    columns: dict[str, pa.Array] = {
        layout.image_key(camera): image_column(frames) for camera, frames in episode.images.items()
    }
    vectors = {layout.STATE: episode.state, layout.ACTION: episode.action, **indices}
    if episode.environment_state is not None:
        vectors[layout.ENVIRONMENT_STATE] = episode.environment_state
    columns |= {name: vector_column(values) for name, values in vectors.items()}
    return pa.table([columns[name] for name in schema.names], schema=schema)


def _episode_row(
    staged: StagedEpisode, index: int, first: int, place: layout.Place, of: dict[str, stats.FeatureStats]
) -> dict[str, Any]:
    length = len(staged.episode)
    row: dict[str, Any] = {"episode_index": index, "tasks": [staged.episode.task], "length": length}
    row |= dict(zip(layout.FILE_INDEX_COLUMNS, place, strict=True))
    row |= {"dataset_from_index": first, "dataset_to_index": first + length}
    extra = json.dumps(dict(staged.episode.extra), sort_keys=True, ensure_ascii=False, allow_nan=False)
    row[layout.EXTRA_COLUMN] = extra
    for key, values in stats.to_json(of).items():
        row |= {f"stats/{key}/{name}": value for name, value in values.items()}
    return row


class _EpisodeTable:
    """`meta/episodes/`: rows gathered into row groups, each knowing the file it is in."""

    def __init__(self, root: Path, sizes: dict[str, Any]) -> None:
        self._files = RollingParquet(root, layout.EPISODES_PATH, **sizes)
        self._rows: list[dict[str, Any]] = []
        self._schema: pa.Schema | None = None

    def add(self, row: dict[str, Any]) -> None:
        self._rows.append(row)
        if len(self._rows) == _EPISODES_PER_ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        if not self._rows:
            return
        place = dict(zip(layout.EPISODE_INDEX_COLUMNS, self._files.place_for(len(self._rows)), strict=True))
        table = pa.Table.from_pylist([row | place for row in self._rows], schema=self._schema)
        self._schema = table.schema
        self._files.write(table)
        self._rows.clear()

    def close(self) -> None:
        self._flush()
        self._files.close()

    def abandon(self) -> None:
        self._files.abandon()


def _info(facts: DatasetFacts, totals: dict[str, int], size_in_mb: float, chunks_size: int) -> dict[str, Any]:
    told = facts.to_info()
    return {
        "codebase_version": layout.CODEBASE_VERSION,
        "robot_type": told["robot_type"],
        **{f"total_{name}": number for name, number in totals.items()},
        "chunks_size": chunks_size,
        "data_files_size_in_mb": size_in_mb,
        "video_files_size_in_mb": layout.VIDEO_FILES_SIZE_IN_MB,
        "fps": told["fps"],
        "splits": {"train": f"0:{totals['episodes']}"},
        "data_path": layout.DATA_PATH,
        "video_path": None,
        "features": told["features"],
        "tinyvla": told["tinyvla"],
    }
