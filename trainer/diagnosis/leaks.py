"""Has training seen what validation is measured on? Compared by content, so that copies are found too."""

from __future__ import annotations

import numpy as np

from trainer.cache import FrameCache
from trainer.diagnosis.findings import Fault, Measured
from trainer.diagnosis.subject import Subject
from trainer.windows import Windows

_CHANCE = 0.01  # share of held-out frames that may be equal without being copies
# Single frames are equal by nature (episodes that start alike, robots at rest); so many in a row are not.
_RUN = 3


def covered(cache: FrameCache, window_starts: np.ndarray, horizon: int) -> np.ndarray:
    """All frames that windows starting at these frames reach into, in order."""
    starts, per = cache.episode_starts, cache.actions_per_frame
    episode = np.searchsorted(starts, window_starts, side="right") - 1
    reach = window_starts[:, None] + np.arange(-(-horizon // per))
    return np.unique(np.minimum(reach, starts[episode + 1][:, None] - 1))


def contents(cache: FrameCache, frames: np.ndarray) -> list[bytes]:
    """State and actions, to the bit, of every run of three frames that lie beside each other in one episode."""
    per = cache.actions_per_frame
    actions = cache.actions[frames[:, None] * per + np.arange(per)].reshape(len(frames), -1)
    rows = np.concatenate([cache.state[frames], actions], 1)
    episode = np.searchsorted(cache.episode_starts, frames, side="right") - 1
    last = len(frames) - _RUN + 1
    return [
        rows[first : first + _RUN].tobytes()
        for first in range(last)
        if frames[first + _RUN - 1] == frames[first] + _RUN - 1
        and episode[first] == episode[first + _RUN - 1]
    ]


def leaks(subject: Subject) -> tuple[Measured | None, list[Fault]]:
    """Compare the frames under the held-out windows with those under the training windows."""
    horizon = subject.args.horizon
    trained: set[bytes] = set()
    held_out: list[bytes] = []
    for parts, note in ((subject.data.train, trained.update), (subject.data.held_out, held_out.extend)):
        for windows in parts.parts:
            assert isinstance(windows, Windows)
            note(contents(windows.cache, covered(windows.cache, windows.frames, horizon)))
    if not held_out:
        return None, []
    shared = sum(frame in trained for frame in held_out)
    share = shared / len(held_out)
    table = Measured(
        "held-out frames (in runs of three) that are also trained on",
        ("held out", "also in training", "share"),
        ((str(len(held_out)), str(shared), f"{100 * share:.1f} %"),),
    )
    if share <= _CHANCE:
        return table, []
    return table, [
        Fault(
            "leaked-validation",
            f"{shared} of {len(held_out)} held-out frames ({100 * share:.0f} %) are also trained on",
            "the split was made by overlapping windows instead of whole episodes, or the same episodes are there twice "
            "(a dataset given twice, or copied into another)",
            "split by whole episodes; give every dataset once",
        )
    ]
