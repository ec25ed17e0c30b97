"""Training samples: one frame and the chunk of actions that starts at it; split by whole episodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from policy.text import tokenize
from trainer.cache import FrameCache
from trainer.read_ahead import read_ahead
from trainer.sensor_windows import cut_windows


@dataclass(frozen=True)
class Batch:
    """B samples, physical units."""

    images: np.ndarray  # uint8 [B, V, H, W, 3]
    tokens: np.ndarray  # int64 [B, L], the instruction as `policy.text.text_encoder` makes it
    state: np.ndarray  # float32 [B, D]
    environment_state: np.ndarray  # float32 [B, E]
    actions: np.ndarray  # float32 [B, H, A], what was demonstrated
    executed: np.ndarray  # float32 [B, H, A], what the robot did
    lead: np.ndarray  # int64 [B], first actions of the chunk that were executed but not demonstrated
    valid: np.ndarray  # bool [B, H], False past the end of the episode
    sensors: tuple[np.ndarray, ...] = ()  # per sensor float32 windows [B, T, C], then masks [B, T]


def split_episodes(episodes: int, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(training, validation) episode numbers; whole episodes, so that no window is in both. Or session numbers."""
    order = np.random.default_rng([seed, 0x5E1]).permutation(episodes)
    held_out = min(episodes - 1, round(episodes * share)) if share > 0 else 0
    held_out = max(held_out, 1 if share > 0 and episodes > 1 else 0)
    return np.sort(order[held_out:]), np.sort(order[:held_out])


class Windows:
    """The samples of some episodes of a cache.

    Args:
        cache: where they are.
        episodes: numbers of the episodes.
        horizon: actions per chunk.
        max_prefix: frames from which the demonstration is further away than this are left out: what the robot did
            until then can only be given as a prefix.
        tokens_of: how the network takes an instruction.
    """

    def __init__(
        self,
        cache: FrameCache,
        episodes: np.ndarray,
        horizon: int,
        max_prefix: int = 0,
        tokens_of: Callable[[str], np.ndarray] = tokenize,
    ) -> None:
        starts = cache.episode_starts
        self.cache = cache
        self._horizon = horizon
        frames = np.concatenate([np.arange(starts[e], starts[e + 1]) for e in episodes])
        self._episode = np.repeat(np.arange(cache.num_episodes), np.diff(starts))
        self._lead = self._leads()
        self.frames = frames[self._lead[frames] <= max_prefix]
        tokens = {task: tokens_of(task) for task in set(cache.tasks)}
        self._tokens = np.stack([tokens[task] for task in cache.tasks])

    def __len__(self) -> int:
        return len(self.frames)

    def _leads(self) -> np.ndarray:
        """int64 [N]: actions from each frame until its episode's demonstration begins."""
        cache = self.cache
        within = np.arange(cache.num_frames) - cache.episode_starts[self._episode]
        return np.maximum(0, cache.demonstrated_from[self._episode] - within * cache.actions_per_frame)

    def batch(self, rows: np.ndarray) -> Batch:
        """The samples at these positions of `frames`."""
        cache = self.cache
        frames = self.frames[rows]
        read_ahead(cache.images, frames)
        episodes = self._episode[frames]
        per_frame = cache.actions_per_frame
        first = frames * per_frame
        end = cache.episode_starts[episodes + 1] * per_frame
        steps = first[:, None] + np.arange(self._horizon)
        valid = steps < end[:, None]
        # Past the end the last action is repeated; it fills the network's input and is masked from the loss.
        steps = np.minimum(steps, end[:, None] - 1)
        return Batch(
            images=cache.images[frames],
            tokens=self._tokens[episodes],
            state=cache.state[frames],
            environment_state=cache.environment_state[frames],
            actions=cache.actions[steps],
            executed=cache.executed[steps],
            lead=self._lead[frames],
            valid=valid,
            sensors=cut_windows(
                cache.sensors, cache.streams, episodes, frames - cache.episode_starts[episodes]
            ),
        )
