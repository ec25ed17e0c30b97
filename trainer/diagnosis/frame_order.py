"""Are an episode's frames in the order of time? Neighbours look alike; out of order they do not."""

from __future__ import annotations

import numpy as np

from trainer.cache import FrameCache
from trainer.diagnosis.findings import Fault, Measured, figure
from trainer.diagnosis.subject import Subject
from trainer.diagnosis.thumbnails import thumbnails

_EPISODES = 24
_SHORTER = 0.75  # an order is the better one when the way through the frames is this much shorter
_AS_LONG_AS_RANDOM = 0.9


def as_text(length: int, first: int) -> np.ndarray:
    """Frame numbers in the order that their names have as text: 0, 1, 10, 11, 2, ..."""
    return np.array(sorted(range(length), key=lambda number: str(number + first)))


def way(values: np.ndarray) -> float:
    """Length of the way from frame to frame; values [N, F]."""
    return float(np.abs(np.diff(values, axis=0)).mean(1).sum())


def orders(values: np.ndarray, seed: int = 0) -> dict[str, float]:
    """The way as the frames lie, as it would be if a sorting as text were undone, and in random order."""
    length = len(values)
    undone = min(way(values[np.argsort(as_text(length, first))]) for first in (0, 1))
    rng = np.random.default_rng(seed)
    random = float(np.mean([way(values[rng.permutation(length)]) for _ in range(3)]))
    return {"as stored": way(values), "text order undone": undone, "random": random}


def _episodes(cache: FrameCache, seed: int) -> list[np.ndarray]:
    """Frames of some episodes that are long enough for text and number to differ."""
    lengths = np.diff(cache.episode_starts)
    long = np.flatnonzero(lengths > 11)
    chosen = np.random.default_rng(seed).permutation(long)[:_EPISODES]
    return [np.arange(cache.episode_starts[e], cache.episode_starts[e + 1]) for e in np.sort(chosen)]


def order_of_frames(subject: Subject) -> tuple[Measured | None, list[Fault]]:
    """Judge images and states of each dataset by the median episode."""
    rows, faults = [], []
    for dataset, cache in zip(subject.data.datasets, subject.data.caches, strict=True):
        episodes = _episodes(cache, subject.seed)
        for what, of in (
            ("images", lambda f, c=cache: thumbnails(c, f)),
            ("states", lambda f, c=cache: c.state[f]),
        ):
            found = [orders(of(frames)) for frames in episodes]
            found = [one for one in found if one["random"] > 0]
            if not found:
                continue
            undone = float(
                np.median([one["text order undone"] / max(one["as stored"], 1e-12) for one in found])
            )
            random = float(np.median([one["as stored"] / one["random"] for one in found]))
            rows.append((f"{dataset.root.name}: {what}", figure(random), figure(undone)))
            if undone < _SHORTER:
                faults.append(
                    Fault(
                        "frames-sorted-as-text",
                        f"{dataset.root}: the way through an episode's {what} is {undone:.2f} times as long once a "
                        "sorting as text (0, 1, 10, 11, 2) is undone",
                        "file names without leading zeros were sorted as text before they were paired with actions",
                        "sort by number; record again or import again",
                    )
                )
            elif random > _AS_LONG_AS_RANDOM:
                faults.append(
                    Fault(
                        "frames-out-of-order",
                        f"{dataset.root}: neighbouring {what} are as unlike as any two of an episode "
                        f"({random:.2f} of the way in random order)",
                        "frames were shuffled, or belong to other episodes",
                        "record or import again, keeping the order of time",
                    )
                )
    if not rows:
        return None, []
    columns = ("", "way as stored / random", "way with text order undone / as stored")
    return Measured("order of an episode's frames (median episode)", columns, tuple(rows)), faults
