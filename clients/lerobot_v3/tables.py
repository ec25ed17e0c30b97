"""The rows of the format's tables: one episode's frames, and its line in `meta/episodes/`."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa

from clients.lerobot_v3 import stats
from clients.lerobot_v3.columns import image_column, vector_column
from clients.lerobot_v3.layout import (
    EPISODE_INDEX_COLUMNS,
    EXTRA_COLUMN,
    FILE_INDEX_COLUMNS,
    VECTOR_COLUMNS,
    Place,
    image_key,
)
from clients.lerobot_v3.rolling import RollingParquet
from clients.lerobot_v3.staging import StagedEpisode

# A row of the episodes table holds some 90 columns: one row group per episode would be mostly footer.
_EPISODES_PER_ROW_GROUP = 100


def index_columns(
    length: int, fps: float, episode_index: int, first_frame: int, task_index: int
) -> dict[str, np.ndarray]:
    """The columns that every LeRobotDataset has: times within the episode, counts over the dataset."""
    frame_index = np.arange(length, dtype=np.int64)
    return {
        "timestamp": (frame_index / fps).astype(np.float32),
        "frame_index": frame_index,
        "episode_index": np.full(length, episode_index, dtype=np.int64),
        "index": frame_index + first_frame,
        "task_index": np.full(length, task_index, dtype=np.int64),
    }


def data_table(staged: StagedEpisode, indices: dict[str, np.ndarray], schema: pa.Schema) -> pa.Table:
    """All frames of one episode, as the data files hold them."""
    episode = staged.episode
    columns: dict[str, pa.Array] = {
        image_key(camera): image_column(frames) for camera, frames in episode.images.items()
    }
    vectors = {VECTOR_COLUMNS[name]: values for name, values in episode.arrays().items()} | indices
    columns |= {name: vector_column(values) for name, values in vectors.items()}
    return pa.table([columns[name] for name in schema.names], schema=schema)


def episode_row(
    staged: StagedEpisode, index: int, first_frame: int, place: Place, of: dict[str, stats.FeatureStats]
) -> dict[str, Any]:
    """An episode's row of `meta/episodes/`, statistics flattened to `stats/<feature>/<name>`."""
    length = len(staged.episode)
    row: dict[str, Any] = {"episode_index": index, "tasks": [staged.episode.task], "length": length}
    row |= dict(zip(FILE_INDEX_COLUMNS, place, strict=True))
    row |= {"dataset_from_index": first_frame, "dataset_to_index": first_frame + length}
    extra = json.dumps(dict(staged.episode.extra), sort_keys=True, ensure_ascii=False, allow_nan=False)
    row[EXTRA_COLUMN] = extra
    for key, values in stats.to_json(of).items():
        row |= {f"stats/{key}/{name}": value for name, value in values.items()}
    return row


class EpisodeTable:
    """`meta/episodes/`: rows gathered into row groups, each knowing the file it is in."""

    def __init__(self, files: RollingParquet) -> None:
        self._files = files
        self._rows: list[dict[str, Any]] = []
        self._schema: pa.Schema | None = None

    def add(self, row: dict[str, Any]) -> None:
        self._rows.append(row)
        if len(self._rows) == _EPISODES_PER_ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        if not self._rows:
            return
        place = dict(zip(EPISODE_INDEX_COLUMNS, self._files.place_for(len(self._rows)), strict=True))
        table = pa.Table.from_pylist([row | place for row in self._rows], schema=self._schema)
        self._schema = table.schema
        self._files.write(table)
        self._rows.clear()

    def close(self) -> None:
        self._flush()
        self._files.close()

    def abandon(self) -> None:
        self._files.abandon()
