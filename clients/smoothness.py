"""How smooth the executed motion was: jumps at chunk borders against ordinary steps, and jerk."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Smoothness:
    """Over one episode; None where too few steps were executed to tell."""

    seams: int  # chunk borders that were executed across
    seam_jump: float | None  # mean change of the command at a border, in fractions of the action range
    interior_step: float | None  # mean change from one command to the next inside a chunk
    seam_jump_ratio: float | None  # the first over the second; 1 means that borders cannot be seen
    jerk: float | None  # root mean square, action range per s^2 (velocity-like) or per s^3 (absolute)


def smoothness(
    commands: np.ndarray,
    seam: np.ndarray,
    contiguous: np.ndarray,
    *,
    action_range: np.ndarray,
    kind: str,
    rate_hz: float,
) -> Smoothness:
    """Measure a sequence of executed commands.

    Args:
        commands: [N, A], in order of execution.
        seam: bool [N], the command came from another chunk than the one before.
        contiguous: bool [N], nothing was held between this command and the one before.
        action_range: [A], high minus low of the action spec.
        kind: of the action spec; deltas and velocities are differentiated once less than positions.
        rate_hz: control rate.
    """
    if len(commands) < 2:
        return Smoothness(0, None, None, None, None)
    scaled = np.asarray(commands, np.float64) / action_range
    change = np.linalg.norm(np.diff(scaled, axis=0), axis=1)
    joined = contiguous[1:]
    at_seam, inside = joined & seam[1:], joined & ~seam[1:]
    seam_jump = float(change[at_seam].mean()) if at_seam.any() else None
    interior = float(change[inside].mean()) if inside.any() else None
    ratio = seam_jump / interior if seam_jump is not None and interior else None
    return Smoothness(int(at_seam.sum()), seam_jump, interior, ratio, _jerk(scaled, joined, kind, rate_hz))


def _jerk(scaled: np.ndarray, joined: np.ndarray, kind: str, rate_hz: float) -> float | None:
    order = 3 if kind == "absolute" else 2
    if len(scaled) <= order:
        return None
    whole = np.ones(len(scaled) - order, bool)  # windows of order + 1 commands without a hold inside
    for offset in range(order):
        whole &= joined[offset : offset + len(whole)]
    if not whole.any():
        return None
    difference = np.diff(scaled, n=order, axis=0)[whole] * rate_hz**order
    return float(np.sqrt(np.mean(np.sum(difference**2, axis=1))))
