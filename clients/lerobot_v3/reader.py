"""Reading a LeRobotDataset v3.0 with embedded images, one episode at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clients.lerobot_v3 import layout, stats
from clients.lerobot_v3.columns import read_images, read_vectors
from clients.lerobot_v3.episode import EpisodeArrays
from clients.lerobot_v3.facts import DatasetFacts
from clients.lerobot_v3.opening import load_episode_rows, load_info, load_json, readable
from clients.lerobot_v3.streams import SensorFacts, SensorStream, read_stream
from clients.lerobot_v3.tasks import read_tasks
from policy.errors import UsageError


class LeRobotDataset:
    """A complete dataset on disk; metadata is read on opening, frames when asked for. Threads may share it.

    Raises:
        UsageError: no such directory, half-written, another codebase_version, damaged or missing files.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.info: dict[str, Any] = load_info(self.root)
        with readable(self.root / layout.INFO_PATH):
            self.facts = DatasetFacts.from_info(self.info)
            self.sensors: dict[str, SensorFacts] = SensorFacts.all_from(self.facts.free)
        stats_path, tasks_path = self.root / layout.STATS_PATH, self.root / layout.TASKS_PATH
        told = load_json(stats_path)
        with readable(stats_path):
            self.stats: dict[str, stats.FeatureStats] = stats.from_json(told)
        with readable(tasks_path):
            self.tasks: list[str] = read_tasks(tasks_path)
        self._rows = load_episode_rows(self.root)
        self._check_totals()
        self._files = self._open_files()

    @property
    def num_episodes(self) -> int:
        return len(self._rows)

    @property
    def num_frames(self) -> int:
        return int(self._rows[-1]["dataset_to_index"]) if self._rows else 0

    @property
    def fps(self) -> float:
        return self.facts.fps

    @property
    def lengths(self) -> list[int]:
        """Frames of each episode."""
        return [row["length"] for row in self._rows]

    def task_of(self, index: int) -> str:
        """Instruction text of an episode, without reading its frames."""
        return self._row(index)["tasks"][0]

    def extra_of(self, index: int) -> dict[str, Any]:
        """The JSON facts stored with an episode, without reading its frames."""
        with readable(self.root / "meta/episodes"):
            return json.loads(self._row(index).get(layout.EXTRA_COLUMN) or "{}")

    def episode(self, index: int, *, cameras: Sequence[str] | None = None) -> EpisodeArrays:
        """One episode, reading only its own rows; `cameras` limits which views are read (default all).

        Raises:
            IndexError: no such episode.
            UsageError: its rows are damaged, or a camera is unknown.
        """
        row = self._row(index)
        wanted = list(self.facts.cameras) if cameras is None else list(cameras)
        for camera in wanted:
            if camera not in self.facts.cameras:
                raise UsageError(f"{self.root}: no camera {camera!r}; it has {sorted(self.facts.cameras)}")
        features = self.info["features"]
        vectors = [key for key in layout.VECTOR_COLUMNS.values() if key in features]
        images = {camera: self.facts.column_of(camera) for camera in wanted}
        path, table = self._read_rows(row, [*images.values(), *vectors, "episode_index"])
        with readable(path):
            if not np.all(table["episode_index"].to_numpy() == index):
                raise ValueError(f"rows of episode {index} belong to another episode")
            arrays = {key: read_vectors(table[key]) for key in vectors}
            return EpisodeArrays(
                task=self.task_of(index),
                images={camera: read_images(table[column]) for camera, column in images.items()},
                state=arrays.get(layout.STATE, np.zeros((len(table), 0), np.float32)),
                action=arrays[layout.ACTION],
                environment_state=arrays.get(layout.ENVIRONMENT_STATE),
                executed_action=arrays.get(layout.EXECUTED_ACTION),
                extra=self.extra_of(index),
                sensors={name: self.stream(index, name) for name in self.sensors},
            )

    def stream(self, index: int, name: str) -> SensorStream:
        """A sensor's samples of one episode, mapped from the disk.

        Raises:
            IndexError: no such episode.
            UsageError: no such sensor, or its files are missing or damaged.
        """
        self._row(index)
        if name not in self.sensors:
            raise UsageError(f"{self.root}: no sensor {name!r}; it has {sorted(self.sensors) or 'none'}")
        return read_stream(self.root, name, index)

    def episodes(self) -> Iterator[EpisodeArrays]:
        """All episodes in order, one in memory at a time."""
        return (self.episode(index) for index in range(self.num_episodes))

    def __len__(self) -> int:
        return self.num_episodes

    def _row(self, index: int) -> Mapping[str, Any]:
        if not 0 <= index < self.num_episodes:
            raise IndexError(f"episode {index} of {self.num_episodes}")
        return self._rows[index]

    def _check_totals(self) -> None:
        found = {"total_episodes": self.num_episodes, "total_frames": self.num_frames}
        for name, number in found.items():
            if self.info[name] != number:
                raise UsageError(
                    f"{self.root}: damaged: info.json says {name} {self.info[name]}, "
                    f"the episodes table has {number}; fetch or collect the dataset again"
                )

    def _open_files(self) -> dict[layout.Place, _DataFile]:
        """Footers of all data files, so that a truncated or missing one is told on opening."""
        spans: dict[layout.Place, tuple[int, int]] = {}
        for row in self._rows:
            place = _place(row)
            first, _ = spans.get(place, (row["dataset_from_index"], 0))
            spans[place] = (first, row["dataset_to_index"])
        files = {}
        for place, (first, end) in spans.items():
            path = place.path(self.root, self.info["data_path"])
            with readable(path):
                metadata = pq.read_metadata(path)
                if metadata.num_rows != end - first:
                    raise ValueError(f"{metadata.num_rows} rows, expected {end - first}")
                files[place] = _DataFile(path, first, metadata)
        return files

    def _read_rows(self, row: Mapping[str, Any], columns: list[str]) -> tuple[Path, pa.Table]:
        file = self._files[_place(row)]
        with readable(file.path):
            return file.path, file.read(row["dataset_from_index"], row["dataset_to_index"], columns)


class _DataFile:
    """One data file: which row groups hold which frames of the dataset."""

    def __init__(self, path: Path, first_frame: int, metadata: pq.FileMetaData) -> None:
        self.path = path
        self._metadata = metadata
        lengths = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        self._starts = first_frame + np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])

    def read(self, start: int, end: int, columns: list[str]) -> pa.Table:
        """Frames [start, end) of the dataset, reading only the row groups that hold them."""
        first = int(np.searchsorted(self._starts, start, side="right")) - 1
        last = int(np.searchsorted(self._starts, end, side="left"))
        # The footer is known already; a fresh handle per call keeps threads apart.
        with pq.ParquetFile(self.path, metadata=self._metadata, page_checksum_verification=True) as file:
            table = file.read_row_groups(list(range(first, last)), columns=columns, use_threads=False)
        return table.slice(start - int(self._starts[first]), end - start)


def _place(row: Mapping[str, Any]) -> layout.Place:
    chunk, file = (row[name] for name in layout.FILE_INDEX_COLUMNS)
    return layout.Place(chunk, file)
