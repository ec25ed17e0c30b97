"""Do images and actions belong together? Held-out images must tell more of states and actions than exchanged ones.

Other frames of the same episodes show whether the order is right, and few episodes are enough for that. Other episodes
show whether the images are of the right episode, unless all episodes take the same course, as insertions do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainer.cache import FrameCache
from trainer.diagnosis.findings import Fault, Measured
from trainer.diagnosis.subject import Subject
from trainer.diagnosis.thumbnails import thumbnails

_EPISODES, _FRAMES = 60, 1500
_EXCHANGES = 8
# Of the features' total variance. The best of them counts, for true pairs and for exchanged ones alike: few episodes
# need a strong one, or what is learnt of some is wrong of the others by more than knowing nothing would be.
_RIDGES = (1e-2, 1e-1, 1.0, 10.0, 100.0)
# True pairs must explain this much more of the variance than the best of the exchanged ones.
_MARGIN = 0.02
_ENOUGH = 8  # episodes; of fewer, sound images may tell nothing that holds for the rest


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


def explained(features: np.ndarray, targets: Sequence[np.ndarray], fitted: np.ndarray) -> list[float]:
    """Share of each target's variance that ridge regression tells on the frames that it was not fitted to.

    Args:
        features: float64 [N, F].
        targets: float64 [N, D] each.
        fitted: bool [N], the frames to fit to.
    """
    known, asked = features[fitted], features[~fitted]
    spectrum, basis = np.linalg.eigh(known @ known.T)
    scale = max(spectrum.sum() / len(known), 1e-12)
    turned = asked @ known.T @ basis
    shares = []
    for target in targets:
        spread = target.std(0)
        target = target[:, spread > 1e-9] / spread[spread > 1e-9]
        wanted, truth = basis.T @ target[fitted], target[~fitted]
        if not truth.any():
            shares.append(0.0)
            continue
        told = [turned @ (wanted / (spectrum + ridge * scale)[:, None]) for ridge in _RIDGES]
        shares.append(float(1 - min(((one - truth) ** 2).mean() for one in told) / (truth**2).mean()))
    return shares


def exchanged(pairs: Pairs, rng: np.random.Generator) -> np.ndarray:
    """The images, each at the place of another frame of its own episode."""
    order = np.arange(len(pairs.episode))
    for number in np.unique(pairs.episode):
        chosen = np.flatnonzero(pairs.episode == number)
        order[chosen] = rng.permutation(chosen)
    return pairs.images[order]


def _told(pairs: Pairs, fitted: np.ndarray, seed: int) -> tuple[list[tuple[str, str, str]], bool]:
    """(what, true pairs, exchanged) for states and actions, and whether true pairs tell more of either."""
    rng = np.random.default_rng(seed)
    targets = (pairs.states, pairs.actions)
    true = explained(pairs.images, targets, fitted)
    others = [explained(exchanged(pairs, rng), targets, fitted) for _ in range(_EXCHANGES)]
    chance = np.max(others, 0)
    rows = [
        (name, f"{100 * share:.1f} %", f"{100 * other:.1f} %")
        for name, share, other in zip(("states", "actions"), true, chance, strict=True)
    ]
    return rows, any(share > max(other, 0.0) + _MARGIN for share, other in zip(true, chance, strict=True))


def pairing(subject: Subject) -> tuple[Measured | None, list[Fault]]:
    """Judge each dataset by itself: on other frames of the same episodes, and on other episodes."""
    rows, faults = [], []
    for dataset, cache in zip(subject.data.datasets, subject.data.caches, strict=True):
        pairs = collect_pairs(cache, subject.seed)
        known = {"same episodes": np.arange(len(pairs.episode)) % 2 == 0}
        if cache.num_episodes >= _ENOUGH:
            known["other episodes"] = np.isin(pairs.episode, np.unique(pairs.episode)[::2])
        for where, fitted in known.items():
            found, told = _told(pairs, fitted, subject.seed)
            rows += [(f"{dataset.root.name}: {name}, {where}", *shares) for name, *shares in found]
            if not told:
                faults.append(
                    Fault(
                        "shuffled-pairs",
                        f"{dataset.root}: the images tell no more of states and actions in the {where} than images "
                        "of other moments do",
                        "images and actions were paired by the wrong index: shuffled, shifted, or sorted differently",
                        "pair by timestamp; record or import again",
                    )
                )
                break
    columns = ("told by the image on frames not fitted to", "true pairs", f"exchanged (best of {_EXCHANGES})")
    return Measured("do images belong to their states and actions?", columns, tuple(rows)), faults
