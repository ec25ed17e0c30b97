"""Demonstrations on disk in the LeRobotDataset v3.0 layout, read and written with pyarrow alone.

Collecting stages finished episodes one by one (`stage_episode`); `finalize_dataset` turns them into a dataset
that the field's own tools read; `LeRobotDataset` reads it back, as any v3.0 dataset with embedded images.
"""

from clients.lerobot_v3.episode import EpisodeArrays, decode_rgb, encode_rgb
from clients.lerobot_v3.facts import DatasetFacts
from clients.lerobot_v3.hashing import dataset_hash
from clients.lerobot_v3.layout import is_complete
from clients.lerobot_v3.reader import LeRobotDataset
from clients.lerobot_v3.staging import read_staged, stage_episode, staged_keys
from clients.lerobot_v3.streams import SensorFacts, SensorStream
from clients.lerobot_v3.writer import finalize_dataset

__all__ = [
    "DatasetFacts",
    "EpisodeArrays",
    "LeRobotDataset",
    "SensorFacts",
    "SensorStream",
    "dataset_hash",
    "decode_rgb",
    "encode_rgb",
    "finalize_dataset",
    "is_complete",
    "read_staged",
    "stage_episode",
    "staged_keys",
]
