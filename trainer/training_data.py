"""The datasets of a run: opened, decoded, split by whole sessions, and told apart by their hashes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clients.lerobot_v3 import DatasetFacts, LeRobotDataset, dataset_hash
from clients.lerobot_v3.layout import SESSION
from policy.errors import UsageError
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
    split_seed: int,
    tokens_of: Callable[[str], np.ndarray] = tokenize,
) -> TrainingData:
    """Open datasets that may be trained on together; `tokens_of` is how the network takes an instruction.

    Raises:
        UsageError: no dataset, a damaged one, or datasets of different cameras, names or rates.
    """
    datasets = tuple(LeRobotDataset(path) for path in directories)
    check_alike(datasets)
    caches = tuple(open_cache(dataset, cameras_of(datasets[0].facts)) for dataset in datasets)
    splits = tuple(_split(dataset, val_split, split_seed) for dataset in datasets)

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


def check_finite(data: TrainingData, targets: np.ndarray) -> None:
    """Raise UsageError for a number that is NaN or infinite: by way of the statistics it would spoil every batch.

    Args:
        targets: columns of the environment state that are learnt.
    """
    for dataset, cache in zip(data.datasets, data.caches, strict=True):
        for name, rows, per_frame in (
            ("state", cache.state, 1),
            ("environment state", cache.environment_state[:, targets], 1),
            ("action", cache.actions, cache.actions_per_frame),
            ("executed action", cache.executed, cache.actions_per_frame),
        ):
            bad = np.flatnonzero(~np.isfinite(rows).all(1)) // per_frame
            if len(bad):
                episode = int(np.searchsorted(cache.episode_starts, bad[0], side="right")) - 1
                raise UsageError(
                    f"{dataset.root}: the {name} of episode {episode} is not finite at frame "
                    f"{bad[0] - cache.episode_starts[episode]}; drop such frames, or the episodes they are in"
                )


def _split(dataset: LeRobotDataset, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(training, validation) episode numbers. Episodes of one session, which imports record, stay together."""
    told = [dataset.extra_of(number).get(SESSION, number) for number in range(dataset.num_episodes)]
    numbers = {session: number for number, session in enumerate(dict.fromkeys(told))}
    session = np.array([numbers[name] for name in told])
    train, held_out = split_episodes(len(numbers), share, seed)
    return np.flatnonzero(np.isin(session, train)), np.flatnonzero(np.isin(session, held_out))
