"""The datasets of a run: opened, decoded, split by whole sessions, and told apart by their hashes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clients.lerobot_v3 import DatasetFacts, LeRobotDataset, dataset_hash
from clients.lerobot_v3.layout import SESSION
from policy.text import tokenize
from trainer.cache import FrameCache, open_cache
from trainer.contract import cameras_of, check_alike
from trainer.loader import Samples
from trainer.windows import Windows, split_episodes


@dataclass(frozen=True)
class TrainingData:
    """What a run trains and validates on."""

    datasets: tuple[LeRobotDataset, ...]
    caches: tuple[FrameCache, ...]
    splits: tuple[tuple[np.ndarray, np.ndarray], ...]  # per cache: training and held-out episode numbers
    train: Samples
    held_out: Samples
    hashes: dict[str, str]  # dataset directory name -> SHA-256 of its content

    @property
    def facts(self) -> DatasetFacts:
        """Names, rates and cameras, which all datasets share."""
        return self.datasets[0].facts


def open_training_data(
    directories: Sequence[Path],
    horizon: int,
    max_prefix: int,
    val_split: float,
    seed: int,
    tokens_of: Callable[[str], np.ndarray] = tokenize,
) -> TrainingData:
    """Open datasets that may be trained on together; `tokens_of` is how the network takes an instruction.

    Raises:
        UsageError: no dataset, a damaged one, or datasets of different cameras, names or rates.
    """
    datasets = tuple(LeRobotDataset(path) for path in directories)
    check_alike(datasets)
    caches = tuple(open_cache(dataset, cameras_of(datasets[0].facts)) for dataset in datasets)
    splits = tuple(_split(dataset, val_split, seed) for dataset in datasets)

    def windows(episodes: Sequence[np.ndarray]) -> Samples:
        chosen = zip(caches, episodes, strict=True)
        return Samples(
            [Windows(cache, some, horizon, max_prefix, tokens_of) for cache, some in chosen if len(some)]
        )

    hashes: dict[str, str] = {}
    for number, dataset in enumerate(datasets):
        name = dataset.root.name
        if name in hashes:  # two datasets may share a directory name
            name = f"{name}-{number}"
        hashes[name] = dataset_hash(dataset.root)
    return TrainingData(
        datasets=datasets,
        caches=caches,
        splits=splits,
        train=windows([train for train, _ in splits]),
        held_out=windows([rest for _, rest in splits]),
        hashes=hashes,
    )


def _split(dataset: LeRobotDataset, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(training, validation) episode numbers. Episodes of one session, which imports record, stay together."""
    told = [dataset.extra_of(number).get(SESSION, number) for number in range(dataset.num_episodes)]
    numbers = {session: number for number, session in enumerate(dict.fromkeys(told))}
    session = np.array([numbers[name] for name in told])
    train, held_out = split_episodes(len(numbers), share, seed)
    return np.flatnonzero(np.isin(session, train)), np.flatnonzero(np.isin(session, held_out))
