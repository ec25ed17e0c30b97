"""Whether training ever waits for its data: samples a second prepared alone, against samples a second trained on.

    python -m tests.benchmarks.data_path DATASET

The three take turns: batches prepared from frames that are in memory, batches prepared from a decoded cache that has
to be read from the disk first, and training as `tinyvla train` does it.
"""

from __future__ import annotations

import argparse
import mmap
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from trainer.run_log import RunLog
from trainer.settings import TrainArgs
from trainer.train import Trainer


def forget(images: np.ndarray) -> None:
    """Drop what the system keeps in memory of a mapped array's file."""
    assert isinstance(images, np.memmap)
    images.base.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]
    handle = os.open(images.filename, os.O_RDONLY)  # type: ignore[arg-type]
    try:
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(handle)


def samples_per_second(work: Callable[[], object], samples: int) -> float:
    started = time.perf_counter()
    work()
    return samples / (time.perf_counter() - started)


def turns(trainer: Trainer, batches: int, rounds: int, log: RunLog) -> Iterator[tuple[str, float]]:
    samples = batches * trainer.args.batch_size
    trainer.per_epoch = batches

    def prepare(first: int) -> None:
        for number in range(first, first + batches):
            trainer.prepared(number)

    def from_disk(first: int) -> float:
        for cache in trainer.data.caches:
            forget(cache.images)
        return samples_per_second(lambda: prepare(first), samples)

    for number in range(rounds):
        first = number * batches
        yield "from the disk", from_disk(first)
        yield "from memory", samples_per_second(lambda first=first: prepare(first), samples)  # type: ignore[misc]
        yield "trained", trainer.train_epoch(number, log)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--batches", type=int, default=10, help="of each turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--draws", type=int, default=2, help="noise draws per image, as the shipped policy had"
    )
    parser.add_argument("--threads", type=int, default=0)
    given = parser.parse_args()
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as out:
        args = TrainArgs(
            dataset_dir=(given.dataset,), out=Path(out), batch_size=given.batch, draws=given.draws, epochs=1000,
            lr=1e-4, save_every=0, threads=given.threads,
        )  # fmt: skip
        trainer = Trainer(args)
        with RunLog(args, trainer.spec) as log:
            for name, rate in turns(trainer, given.batches, given.rounds, log):
                found.setdefault(name, []).append(rate)
    trained = statistics.median(found["trained"])
    for name, rates in found.items():
        middle = statistics.median(rates)
        print(
            f"{name:<14} {middle:8.0f} samples/s ({min(rates):.0f} to {max(rates):.0f})  {middle / trained:6.1f}x"
        )


if __name__ == "__main__":
    main()
