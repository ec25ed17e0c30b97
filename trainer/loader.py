"""The order of the data and a thread that prepares batches ahead of the optimiser.

Everything random follows from (seed, batch number), so a resumed run sees exactly what an unbroken one would have.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from trainer.windows import Batch, Windows

T = TypeVar("T")


class Samples:
    """The windows of several caches as one sequence."""

    def __init__(self, parts: Sequence[Windows]) -> None:
        self.parts = list(parts)
        self._offsets = np.cumsum([0, *map(len, self.parts)])

    def __len__(self) -> int:
        return int(self._offsets[-1])

    def batch(self, rows: np.ndarray) -> Batch:
        """The samples at `rows`, grouped by the cache they come from."""
        pieces = []
        for part, start, end in zip(self.parts, self._offsets, self._offsets[1:], strict=False):
            mine = rows[(rows >= start) & (rows < end)]
            if len(mine):
                pieces.append(part.batch(mine - start))
        if len(pieces) == 1:
            return pieces[0]
        fields = [name for name in Batch.__dataclass_fields__ if name != "sensors"]
        sensors = zip(*(piece.sensors for piece in pieces), strict=True)
        return Batch(
            **{name: np.concatenate([getattr(piece, name) for piece in pieces]) for name in fields},
            sensors=tuple(np.concatenate(parts) for parts in sensors),
        )


def batches_per_epoch(samples: int, batch_size: int) -> int:
    """The last batch of an epoch may be smaller."""
    return -(-samples // batch_size)


def spread_rows(count: int, most: int) -> np.ndarray:
    """int64 [up to `most`]: rows of `count`, evenly from the first to the last; the same every time."""
    return np.unique(np.linspace(0, count - 1, most).round().astype(np.int64))


def rows_of_batch(number: int, samples: int, batch_size: int, seed: int) -> np.ndarray:
    """Which samples make up a batch, counted from the start of training; every epoch has its own order."""
    epoch, within = divmod(number, batches_per_epoch(samples, batch_size))
    return _epoch_order(epoch, samples, seed)[within * batch_size : (within + 1) * batch_size]


_ORDER: dict[tuple[int, int, int], np.ndarray] = {}


def _epoch_order(epoch: int, samples: int, seed: int) -> np.ndarray:
    key = (epoch, samples, seed)
    if key not in _ORDER:
        _ORDER.clear()
        _ORDER[key] = np.random.default_rng([seed, epoch]).permutation(samples)
    return _ORDER[key]


def prefetch(make: Callable[[int], T], numbers: Sequence[int], ahead: int = 4) -> Iterator[T]:
    """`make(n)` for each n, up to `ahead` items before they are needed, on a thread whose errors are raised here."""
    ready: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(maxsize=ahead)
    stopped = threading.Event()

    def produce() -> None:
        for number in numbers:
            try:
                item: tuple[T | None, BaseException | None] = (make(number), None)
            except BaseException as error:
                item = (None, error)
            while not stopped.is_set():
                try:
                    ready.put(item, timeout=0.2)
                    break
                except queue.Full:
                    continue
            if stopped.is_set() or item[1] is not None:
                return

    thread = threading.Thread(target=produce, daemon=True, name="batches")
    thread.start()
    try:
        for _ in numbers:
            value, error = ready.get()
            if error is not None:
                raise error
            yield value  # type: ignore[misc]
    finally:
        stopped.set()
        thread.join()
