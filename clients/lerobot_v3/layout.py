"""Where everything lies in a LeRobotDataset v3.0: paths, limits and the numbering of files.

Names and limits are those of huggingface/lerobot 0.4, `lerobot/datasets/utils.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

CODEBASE_VERSION = "v3.0"
CHUNKS_SIZE = 1000
"""Files per chunk directory."""
DATA_FILES_SIZE_IN_MB = 100
VIDEO_FILES_SIZE_IN_MB = 200
"""Only stated in info.json: images are embedded here, no video is written."""

DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
FILES_GLOB = "chunk-*/file-*.parquet"
INFO_PATH = "meta/info.json"
STATS_PATH = "meta/stats.json"
TASKS_PATH = "meta/tasks.parquet"
STAGING_DIR = ".staging"
JOURNALS_DIR = ".journals"
"""What a recording in progress, or one that was cut off, consists of."""

STATE = "observation.state"
ENVIRONMENT_STATE = "observation.environment_state"
ACTION = "action"
EXECUTED_ACTION = "executed_action"
"""Our own feature: what the robot did where that was not what is demonstrated."""
OBSERVATION_PREFIX = "observation."
IMAGE_PREFIX = "observation.images."
VECTOR_COLUMNS = {
    "state": STATE,
    "action": ACTION,
    "environment_state": ENVIRONMENT_STATE,
    "executed_action": EXECUTED_ACTION,
}
"""Numeric parts of an episode by their short names, and the features that hold them."""

FILE_INDEX_COLUMNS = ("data/chunk_index", "data/file_index")
EPISODE_INDEX_COLUMNS = ("meta/episodes/chunk_index", "meta/episodes/file_index")
EXTRA_COLUMN = "tinyvla/extra"
"""Our own column of the episodes table: JSON facts about the episode."""
SESSION = "session"
"""Of those facts: which sitting the episode was recorded in. Validation holds out whole sessions."""


class Place(NamedTuple):
    """Which file of which chunk."""

    chunk_index: int
    file_index: int

    def path(self, root: Path, template: str) -> Path:
        return root / template.format(chunk_index=self.chunk_index, file_index=self.file_index)

    def following(self, chunks_size: int) -> Place:
        """The next file; a full chunk is followed by the first file of the next."""
        if self.file_index == chunks_size - 1:
            return Place(self.chunk_index + 1, 0)
        return Place(self.chunk_index, self.file_index + 1)


def image_key(camera: str) -> str:
    """Column of one camera."""
    return IMAGE_PREFIX + camera


def is_complete(root: Path) -> bool:
    """Whether writing has ended: `meta/info.json` is the last file written."""
    return (Path(root) / INFO_PATH).is_file()


def dataset_files(root: Path) -> list[Path]:
    """Every file that belongs to the dataset, in the order of their paths; nothing else under `root`."""
    root = Path(root)
    meta = [root / name for name in (INFO_PATH, STATS_PATH, TASKS_PATH)]
    tables = [*(root / "data").glob(FILES_GLOB), *(root / "meta/episodes").glob(FILES_GLOB)]
    streams = (root / "sensors").glob("*/episode-*.np[yz]")
    files = [path for path in (*meta, *tables, *streams) if path.is_file()]
    return sorted(files, key=lambda path: path.relative_to(root).as_posix())
