"""What holding means for each kind of action: motion fades out, then there is none. Never an extrapolation.

A plan that ends in the middle of a motion would stop the robot with a jerk. Holding therefore begins with the
last motion executed and halves it until it is gone, which takes a sixteenth of a second and adds less than one
period's motion at 80 Hz.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

ActionKind = Literal["delta", "absolute", "velocity"]

# One period at 80 Hz: a motion is halved every period, and a slower robot, for which this is less than one
# period, stops at once.
HALF_LIFE_S = 0.0125
# By then a thirty-second part is left, which is cut off.
FADE_S = 5 * HALF_LIFE_S


def fade(held_s: float) -> float:
    """The share of the last motion that a robot still makes after holding for `held_s` seconds."""
    return 0.5 ** (held_s / HALF_LIFE_S) if held_s < FADE_S else 0.0


def hold_action(
    kind: ActionKind, last: np.ndarray, kept: Sequence[int] = (), share: float = 0.0
) -> np.ndarray:
    """The command that keeps the robot where it is, or brings it to a stop there.

    Args:
        kind: of the action spec.
        last: float32 [A], the last command executed (before the first one: the robot's resting command).
        kept: dimensions that are no motion, such as a gripper's effort: they keep their last command,
            so that a robot holding an object goes on holding it.
        share: of the last motion, see `fade`; 0 stands still.

    Returns:
        float32 [A]: faded motion for deltas and velocities, the last target for absolute actions.
    """
    if kind == "absolute":
        return np.array(last, np.float32)
    held = np.asarray(last * np.float32(share), np.float32)
    for dimension in kept:
        held[dimension] = last[dimension]
    return held
