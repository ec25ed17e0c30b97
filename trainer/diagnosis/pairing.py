"""Do images and actions belong together? Held-out images must tell more of states and actions than exchanged ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trainer.cache import FrameCache
from trainer.diagnosis.findings import Fault, Measured
from trainer.diagnosis.subject import Subject
from trainer.diagnosis.thumbnails import thumbnails

_EPISODES, _FRAMES = 60, 1500
_EXCHANGES = 12
_RIDGE = 1e-2  # of the features' total variance
# True pairs must explain this much more of the variance than the best of the exchanged ones.
_MARGIN = 0.02


@dataclass(frozen=True)
class Pairs:
    """Frames of some episodes; everything relative to its episode's mean, so that only the course within it counts."""

    images: np.ndarray  # float64 [N, F]
    states: np.ndarray  # float64 [N, D]
    actions: np.ndarray  # float64 [N, A], mean of the frame's actions
    episode: np.ndarray  # int64 [N]


def _centred(values: np.ndarray, episode: np.ndarray) -> np.ndarray:
    centred = np.asarray(values, np.float64).copy()
    for number in np.unique(episode):
        chosen = episode == number
        centred[chosen] -= centred[chosen].mean(0)
    return centred


def collect_pairs(cache: FrameCache, seed: int) -> Pairs:
    """Up to 60 episodes and 1,500 frames, evenly spread."""
    rng = np.random.default_rng(seed)
    episodes = np.sort(rng.permutation(cache.num_episodes)[:_EPISODES])
    starts = cache.episode_starts
    frames = np.concatenate([np.arange(starts[e], starts[e + 1]) for e in episodes])
    every = -(-len(frames) // _FRAMES)
    frames = frames[::every]
    episode = np.searchsorted(starts, frames, side="right") - 1
    per = cache.actions_per_frame
    actions = cache.actions[frames[:, None] * per + np.arange(per)].mean(1)
    return Pairs(
        _centred(thumbnails(cache, frames), episode),
        _centred(cache.state[frames], episode),
        _centred(actions, episode),
        episode,
    )


def explained(features: np.ndarray, targets: np.ndarray, episode: np.ndarray) -> float:
    """Share of the targets' variance that ridge regression tells on the half of the episodes it was not fitted to."""
    fitted = np.isin(episode, np.unique(episode)[::2])
    scale = targets.std(0)
    targets = targets[:, scale > 1e-9] / scale[scale > 1e-9]
    if not targets.shape[1] or fitted.all() or not fitted.any():
        return 0.0
    known, asked = features[fitted], features[~fitted]
    kernel = known @ known.T
    ridge = _RIDGE * max(np.trace(kernel) / len(known), 1e-12) * np.eye(len(known))
    weights = np.linalg.solve(kernel + ridge, targets[fitted])
    error = asked @ (known.T @ weights) - targets[~fitted]
    return float(1 - (error**2).mean() / (targets[~fitted] ** 2).mean())


def exchanged(pairs: Pairs, rng: np.random.Generator) -> np.ndarray:
    """The images, each at the place of another frame of its own episode."""
    order = np.arange(len(pairs.episode))
    for number in np.unique(pairs.episode):
        chosen = np.flatnonzero(pairs.episode == number)
        order[chosen] = rng.permutation(chosen)
    return pairs.images[order]


def pairing(subject: Subject) -> tuple[Measured | None, list[Fault]]:
    """Judge each dataset by itself."""
    rows, faults = [], []
    for dataset, cache in zip(subject.data.datasets, subject.data.caches, strict=True):
        if cache.num_episodes < 4:
            continue  # nothing to hold out
        pairs = collect_pairs(cache, subject.seed)
        rng = np.random.default_rng(subject.seed)
        others = [exchanged(pairs, rng) for _ in range(_EXCHANGES)]
        told = False
        for name, targets in (("states", pairs.states), ("actions", pairs.actions)):
            true = explained(pairs.images, targets, pairs.episode)
            chance = max(explained(other, targets, pairs.episode) for other in others)
            rows.append((f"{dataset.root.name}: {name}", f"{100 * true:.1f} %", f"{100 * chance:.1f} %"))
            told = told or true > max(chance, 0.0) + _MARGIN
        if not told:
            faults.append(
                Fault(
                    "shuffled-pairs",
                    f"{dataset.root}: the images tell no more of states and actions than images of other moments do",
                    "images and actions were paired by the wrong index: shuffled, shifted, or sorted differently",
                    "pair by timestamp; record or import again",
                )
            )
    if not rows:
        return None, []
    columns = ("told by the image, within episodes not fitted to", "true pairs", "exchanged (best of 12)")
    return Measured("do images belong to their states and actions?", columns, tuple(rows)), faults
