"""The clocks of a recording: which timestamps to believe, and how one host's clock relates to another's."""

from __future__ import annotations

from bisect import bisect_left

import numpy as np

from clients.robots.needle_rig_clock import STEP_S

# Streams that a recorder starts and stops together begin and end this close to each other on one clock.
TOGETHER_S = 0.25
# An offset is told from stretches this long: enough messages for one that was not late, too short to drift far.
STRETCH_S = 10.0


def ascending(times: np.ndarray) -> np.ndarray:
    """bool [N]: the most rows that can be kept so that their times ascend strictly.

    A time that runs backwards, leaps ahead or comes twice costs its own row and no other (the longest increasing
    subsequence, found by patience sorting).
    """
    ends: list[float] = []  # the smallest time at which an ascending choice of each length can end
    last: list[int] = []  # its row
    before = np.full(len(times), -1, np.int64)
    for row, time in enumerate(times.tolist()):
        place = bisect_left(ends, time)
        if place:
            before[row] = last[place - 1]
        if place == len(ends):
            ends.append(time)
            last.append(row)
        else:
            ends[place], last[place] = time, row
    kept = np.zeros(len(times), bool)
    row = last[-1] if last else -1
    while row >= 0:
        kept[row] = True
        row = int(before[row])
    return kept


def offsets_to_receiver(sent: np.ndarray, received: np.ndarray) -> np.ndarray:
    """float64 [N]: seconds to add to the sender's times; NaN where a message's times are far from all others'.

    Messages are only ever late, so the smallest difference of ten seconds is the offset; between
    the middles of those stretches it is interpolated, so that a drift is followed.
    """
    difference = received - sent
    offsets = np.full(len(sent), np.nan)
    # A median that is one of them: between two halves that are far apart nothing would be near it.
    believed = np.abs(difference - np.quantile(difference, 0.5, method="lower")) <= STEP_S
    stretch = np.floor((received[believed] - received[believed].min()) / STRETCH_S).astype(np.int64)
    middles, least = [], []
    for number in np.unique(stretch):
        chosen = stretch == number
        middles.append(received[believed][chosen].mean())
        least.append(difference[believed][chosen].min())
    offsets[believed] = np.interp(received[believed], middles, least)
    return offsets


def offset_by_span(own: tuple[float, float], reference: tuple[float, float]) -> float | None:
    """Seconds to add to a stream's times, told by when it begins and ends beside another of the same recording.

    0 where they begin or end together, or the stream lies within the other; None where nothing agrees. Good to a
    tenth of a second or so; of two estimates the later is taken, so that a causal window never sees ahead.
    """
    begins, ends = reference[0] - own[0], reference[1] - own[1]
    if min(abs(begins), abs(ends)) <= TOGETHER_S:
        return 0.0
    if abs(begins - ends) <= TOGETHER_S:
        return max(begins, ends)
    return 0.0 if begins <= 0 <= ends else None
