"""Recognising a dataset before using it: missing, half-written, of another version, damaged."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from clients.lerobot_v3 import layout
from clients.lerobot_v3.staging import staged_keys
from policy.errors import UsageError


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn whatever a damaged file raises into one line that names the file."""
    try:
        yield
    except FileNotFoundError as error:
        raise UsageError(f"{path}: file of the dataset is missing; fetch or collect it again") from error
    except (OSError, ValueError, KeyError, TypeError, IndexError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(f"{path}: damaged ({reason}); fetch or collect the dataset again") from error


def load_info(root: Path) -> dict[str, Any]:
    """`meta/info.json` of a complete v3.0 dataset with embedded images; UsageError otherwise."""
    if not root.is_dir():
        raise UsageError(f"{root}: no such dataset directory")
    if not layout.is_complete(root):
        raise UsageError(_why_incomplete(root))
    path = root / layout.INFO_PATH
    info = load_json(path)
    version = info.get("codebase_version")
    if version != layout.CODEBASE_VERSION:
        raise UsageError(
            f"{path}: codebase_version {version!r}, expected {layout.CODEBASE_VERSION!r}; "
            "convert it with lerobot's own tools"
        )
    with readable(path):
        videos = [key for key, feature in info["features"].items() if feature["dtype"] == "video"]
        if int(info["total_episodes"]) < 0 or int(info["total_frames"]) < 0:
            raise ValueError("negative totals")
    if videos:
        raise UsageError(f"{path}: {videos[0]} is stored as video; only embedded images are read")
    return info


def _why_incomplete(root: Path) -> str:
    if (root / layout.JOURNALS_DIR).is_dir():
        return f"{root}: a recording in progress or cut off; `tinyvla recover {root}` finishes one that was cut off"
    staged = len(staged_keys(root))
    if staged or layout.dataset_files(root):
        return (
            f"{root}: half-written dataset ({staged} episodes staged, no {layout.INFO_PATH}); "
            "run the same `tinyvla collect` or `tinyvla import` command again to resume it"
        )
    return f"{root}: not a dataset ({layout.INFO_PATH} is missing)"


def load_json(path: Path) -> dict[str, Any]:
    """A JSON object; UsageError where it is unreadable or something else."""
    with readable(path):
        value = json.loads(path.read_bytes())
        if not isinstance(value, dict):
            raise ValueError("not a JSON object")
    return value


def load_episode_rows(root: Path) -> list[dict[str, Any]]:
    """Rows of the episodes table without their statistics, by episode_index, checked to be 0, 1, 2, ..."""
    rows: list[dict[str, Any]] = []
    for path in layout.dataset_files(root):
        if path.parts[-3] != "episodes":
            continue
        with readable(path):
            file = pq.ParquetFile(path, page_checksum_verification=True)
            names = [name for name in file.schema_arrow.names if not name.startswith("stats/")]
            rows += file.read(columns=names).to_pylist()
    directory = root / "meta/episodes"
    with readable(directory):
        # Paths sort as text; the numbers in the rows are what counts.
        rows.sort(key=lambda row: row["episode_index"])
        if [row["episode_index"] for row in rows] != list(range(len(rows))):
            raise ValueError("episode_index is not numbered from 0 without gaps")
        ends = [0, *(row["dataset_to_index"] for row in rows)]
        for row, start in zip(rows, ends[:-1], strict=True):
            if row["dataset_from_index"] != start or row["dataset_to_index"] - start != row["length"]:
                raise ValueError(f"episode {row['episode_index']} does not follow the one before it")
    return rows
