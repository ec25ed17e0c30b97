"""Finished episodes waiting for the dataset: one parquet file each, whole or absent, so a kill loses none."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from clients.lerobot_v3 import stats
from clients.lerobot_v3.atomic import write_atomically
from clients.lerobot_v3.columns import read_vectors, vector_column
from clients.lerobot_v3.episode import EpisodeArrays
from clients.lerobot_v3.layout import IMAGE_PREFIX, STAGING_DIR, VECTOR_COLUMNS, image_key
from clients.lerobot_v3.streams import stage_streams
from policy.errors import UsageError

FORMAT = "tinyvla-staged/1"
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, eq=False)
class StagedEpisode:
    """A staged episode with what was worked out when it was staged."""

    episode: EpisodeArrays
    image_sizes: Mapping[str, tuple[int, int]]  # camera -> (height, width)
    stats: Mapping[str, stats.FeatureStats]  # of images and every numeric column


def staged_path(root: Path, key: str) -> Path:
    """Where the episode of this key waits; ValueError for a key that is no plain file name."""
    if not _KEY.fullmatch(key):
        raise ValueError(f"episode key {key!r}: letters, digits, '.', '_' and '-' only")
    return Path(root) / STAGING_DIR / f"{key}.parquet"


def stage_episode(root: Path, key: str, episode: EpisodeArrays) -> Path:
    """Write one episode under `root/.staging/<key>.parquet`, atomically; safe from several processes.

    Image statistics are worked out here, where collecting runs in parallel, and not when finalizing.

    Raises:
        ValueError: parts of different length, numbers that are not finite, unreadable images.
    """
    path = staged_path(root, key)
    episode.check()
    stage_streams(Path(root), key, episode.sensors, len(episode))
    facts = {
        "format": FORMAT,
        "task": episode.task,
        "extra": dict(episode.extra),
        "image_sizes": episode.image_sizes(),
        "stats": stats.to_json(_stats(episode)),
    }
    columns: dict[str, pa.Array] = {
        image_key(camera): pa.array(frames, type=pa.binary()) for camera, frames in episode.images.items()
    }
    columns |= {VECTOR_COLUMNS[name]: vector_column(array) for name, array in episode.arrays().items()}
    described = json.dumps(facts, sort_keys=True, ensure_ascii=False, allow_nan=False)
    table = pa.table(columns).replace_schema_metadata({"tinyvla": described})
    write_atomically(
        path,
        lambda file: pq.write_table(
            table, file, use_dictionary=False, write_statistics=False, write_page_checksum=True
        ),
    )
    return path


def _stats(episode: EpisodeArrays) -> dict[str, stats.FeatureStats]:
    of = {image_key(camera): stats.image_stats(frames) for camera, frames in episode.images.items()}
    return of | {VECTOR_COLUMNS[name]: stats.vector_stats(array) for name, array in episode.arrays().items()}


def staged_keys(root: Path) -> set[str]:
    """Keys of the episodes that are safely on disk; temporary files of a killed writer do not count."""
    return {path.stem for path in (Path(root) / STAGING_DIR).glob("*.parquet") if _KEY.fullmatch(path.stem)}


def read_staged(path: Path) -> EpisodeArrays:
    """The episode as it was staged; UsageError with one line where the file is damaged."""
    return load_staged(path).episode


def load_staged(path: Path) -> StagedEpisode:
    """The episode and its statistics; UsageError with one line where the file is damaged."""
    if not Path(path).is_file():
        raise UsageError(f"{path}: no such staged episode")
    try:
        table = pq.read_table(path, page_checksum_verification=True)
        facts: dict[str, Any] = json.loads(table.schema.metadata[b"tinyvla"])
        if facts["format"] != FORMAT:
            raise ValueError(f"format {facts['format']!r}, not {FORMAT!r}")
        vectors = {
            name: read_vectors(table[column])
            for name, column in VECTOR_COLUMNS.items()
            if column in table.column_names
        }
        episode = EpisodeArrays(
            task=facts["task"],
            images={
                key.removeprefix(IMAGE_PREFIX): table[key].to_pylist()
                for key in table.column_names
                if key.startswith(IMAGE_PREFIX)
            },
            state=vectors["state"],
            action=vectors["action"],
            environment_state=vectors.get("environment_state"),
            executed_action=vectors.get("executed_action"),
            extra=facts["extra"],
        )
        sizes = {camera: (size[0], size[1]) for camera, size in facts["image_sizes"].items()}
        return StagedEpisode(episode, sizes, stats.from_json(facts["stats"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(
            f"{path}: damaged staged episode ({reason}); delete it and collect it again"
        ) from error
