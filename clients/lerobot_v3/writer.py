"""Staged episodes become a LeRobotDataset v3.0, one episode in memory at a time, `meta/info.json` last."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from clients.lerobot_v3 import layout, stats
from clients.lerobot_v3.atomic import sync_directory, writable, write_json_atomically
from clients.lerobot_v3.columns import data_schema
from clients.lerobot_v3.facts import INDEX_FEATURES, DatasetFacts
from clients.lerobot_v3.rolling import RollingParquet
from clients.lerobot_v3.staging import StagedEpisode, load_staged, staged_keys, staged_path
from clients.lerobot_v3.streams import SensorFacts, publish_streams, remove_staged_streams
from clients.lerobot_v3.tables import EpisodeTable, data_table, episode_row, index_columns
from clients.lerobot_v3.tasks import write_tasks
from policy.errors import UsageError


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
        UsageError: the dataset is already complete, an episode is missing, damaged or of another shape, or
            the disk is full; staged episodes are never lost.
    """
    root = Path(root)
    _check_request(root, keys_in_order)
    _remove_unfinished(root)
    running, tasks = stats.RunningStats(), dict[str, int]()
    frames = 0
    sensors = list(SensorFacts.all_from(facts.free))

    sizes: dict[str, Any] = {"size_in_mb": data_files_size_in_mb, "chunks_size": chunks_size}
    features = facts.features()
    numbers = [key for key, feature in features.items() if feature["dtype"] != "image"]
    data = RollingParquet(
        root, layout.DATA_PATH, **sizes, statistics_of=list(INDEX_FEATURES), dictionary_of=numbers
    )
    episodes = EpisodeTable(RollingParquet(root, layout.EPISODES_PATH, **sizes))
    try:
        for episode_index, key in enumerate(keys_in_order):
            path = staged_path(root, key)
            staged = load_staged(path)
            _check_shape(staged, facts, path)
            publish_streams(root, key, episode_index, sensors)
            task_index = tasks.setdefault(staged.episode.task, len(tasks))
            indices = index_columns(len(staged.episode), facts.fps, episode_index, frames, task_index)
            with writable(root):
                place = data.place_for(len(staged.episode))
                data.write(data_table(staged, indices, data_schema(features)))
            of = {**staged.stats, **{name: stats.vector_stats(values) for name, values in indices.items()}}
            of = {name: of[name] for name in features}
            running.add(of)
            with writable(root):
                episodes.add(episode_row(staged, episode_index, frames, place, of))
            frames += len(staged.episode)
            if progress is not None:
                progress(episode_index + 1, len(keys_in_order))
        with writable(root):
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
        _remove_staged(root, keys_in_order, sensors)


def _check_request(root: Path, keys: Sequence[str]) -> None:
    if layout.is_complete(root):
        raise UsageError(f"{root}: the dataset is already complete; choose another directory")
    if not keys:
        raise UsageError(f"{root}: no episodes to write")
    if len(set(keys)) != len(keys):
        raise ValueError("an episode key is given twice")
    staged = staged_keys(root)
    missing = [key for key in keys if key not in staged]
    if missing:
        raise UsageError(
            f"{root}: {len(missing)} episodes are not collected yet, the first is {missing[0]!r}"
        )


def _remove_unfinished(root: Path) -> None:
    """Drop files of a finalize that was killed; only names of the format, never a whole directory."""
    for path in layout.dataset_files(root):
        path.unlink()


def _remove_staged(root: Path, keys: Sequence[str], sensors: Sequence[str]) -> None:
    """Drop the episodes that are now in the dataset; others, and their directory, stay."""
    for key in keys:
        staged_path(root, key).unlink()
        remove_staged_streams(root, key, sensors)
    directory = root / layout.STAGING_DIR
    for leftover in directory.glob(".*.tmp"):
        leftover.unlink()
    if not any(directory.iterdir()):
        directory.rmdir()


def _check_shape(staged: StagedEpisode, facts: DatasetFacts, path: Path) -> None:
    episode = staged.episode
    environment, executed = episode.environment_state, episode.executed_action
    found = {
        "cameras": dict(staged.image_sizes),
        "state": episode.state.shape[1],
        "action": episode.action.shape[1],
        "environment_state": 0 if environment is None else environment.shape[1],
        "executed_action": 0 if executed is None else executed.shape[1],
    }
    expected = {
        "cameras": {camera: tuple(size) for camera, size in facts.cameras.items()},
        "state": len(facts.state_names),
        "action": facts.actions_per_frame * facts.action_dim,
        "environment_state": len(facts.environment_state_names),
        "executed_action": facts.actions_per_frame * facts.action_dim * facts.executed_actions,
    }
    for part, wanted in expected.items():
        if found[part] != wanted:
            raise UsageError(f"{path}: {part}: expected {wanted}, got {found[part]}")


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
