"""Windows of a sensor stream: strictly causal, cut in the same way on the robot, in simulation and in training."""

from __future__ import annotations

import numpy as np


def causal_window(
    times: np.ndarray, values: np.ndarray, at: float, *, samples: int, rate_hz: float
) -> np.ndarray:
    """What a policy may know of the stream at `at`: the samples of the `samples / rate_hz` seconds up to it.

    Lost samples make the window shorter; what reads it pads at the front and masks. Never a sample later than `at`.

    Args:
        times: float64 [N], ascending, on the clock of `at`, seconds.
        values: [N, C].

    Returns:
        float32 [T <= samples, C], oldest first.
    """
    end = int(np.searchsorted(times, at, side="right"))
    # Half a sample more than the span, for clocks that jitter; the cut below sees to the length.
    begin = int(np.searchsorted(times, at - (samples + 0.5) / rate_hz, side="right"))
    return np.asarray(values[max(begin, end - samples) : end], np.float32)
