"""What holding still means for each kind of action. Never an extrapolation of the last motion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

ActionKind = Literal["delta", "absolute", "velocity"]


def hold_action(kind: ActionKind, last: np.ndarray, kept: Sequence[int] = ()) -> np.ndarray:
    """The command that keeps the robot where it is.

    Args:
        kind: of the action spec.
        last: float32 [A], the last command sent (before the first one: the robot's resting command).
        kept: dimensions that are no motion, such as a gripper's effort: they keep their last command,
            so that a robot holding an object goes on holding it.

    Returns:
        float32 [A]: zero motion for deltas and velocities, the last target for absolute actions.
    """
    if kind == "absolute":
        return np.array(last, np.float32)
    held = np.zeros_like(last, dtype=np.float32)
    for dimension in kept:
        held[dimension] = last[dimension]
    return held
