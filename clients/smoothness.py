"""How smooth the motion was: jumps at chunk borders against ordinary steps, and jerk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clients.episode_trace import EpisodeTrace
from policy.spec import ActionSpec


@dataclass(frozen=True)
class Smoothness:
    """Over one episode; None where too few steps were executed to tell."""

    seams: int  # chunk borders that were executed across without holding between
    seam_jump: float | None  # mean change of the command at a border, in fractions of the action range
    interior_steps: int
    interior_step: float | None  # mean change from one command to the next inside a chunk
    seam_jump_ratio: float | None  # the first over the second; 1 means that borders cannot be seen
    jerk: float | None  # root mean square, action range per s^2 (velocity-like) or per s^3 (absolute)


def episode_smoothness(
    trace: EpisodeTrace, action: ActionSpec, rate_hz: float, kept: Sequence[int] = ()
) -> Smoothness:
    """Of an episode, from the first action on.

    Args:
        trace: of the episode.
        action: of the policy.
        rate_hz: control rate.
        kept: dimensions that are no motion, such as a gripper's effort; left out.
    """
    steps = list(trace.steps)
    first = next((i for i, record in enumerate(steps) if record.command is not None), len(steps))
    steps = steps[first:]
    motion = [i for i in range(action.dim) if i not in kept]
    return smoothness(
        np.asarray([record.sent for record in steps]).reshape(len(steps), action.dim)[:, motion],
        np.asarray([record.seam for record in steps], bool),
        np.asarray([record.contiguous for record in steps], bool),
        action_range=(np.asarray(action.high) - np.asarray(action.low))[motion],
        kind=action.kind,
        rate_hz=rate_hz,
    )


def smoothness(
    commands: np.ndarray,
    seam: np.ndarray,
    contiguous: np.ndarray,
    *,
    action_range: np.ndarray,
    kind: str,
    rate_hz: float,
) -> Smoothness:
    """Measure a sequence of commands.

    Args:
        commands: [N, A], everything that was sent, one a period. Jerk looks at all of it, so that stopping and
            starting again shows.
        seam: bool [N], the command is the first of a chunk's own, after another chunk's. A chunk's own actions begin
            after its prefix, which is where a jump would be.
        contiguous: bool [N], this command and the one before followed a plan; only between such are steps and
            seams compared.
        action_range: [A], high minus low of the action spec.
        kind: of the action spec; deltas and velocities are differentiated once less than positions.
        rate_hz: control rate.
    """
    if len(commands) < 2:
        return Smoothness(0, None, 0, None, None, None)
    scaled = np.asarray(commands, np.float64) / action_range
    change = np.linalg.norm(np.diff(scaled, axis=0), axis=1)
    joined = contiguous[1:]
    at_seam, inside = joined & seam[1:], joined & ~seam[1:]
    seam_jump = float(change[at_seam].mean()) if at_seam.any() else None
    interior = float(change[inside].mean()) if inside.any() else None
    ratio = seam_jump / interior if seam_jump is not None and interior else None
    jerk = _jerk(scaled, kind, rate_hz)
    return Smoothness(int(at_seam.sum()), seam_jump, int(inside.sum()), interior, ratio, jerk)


def _jerk(scaled: np.ndarray, kind: str, rate_hz: float) -> float | None:
    order = 3 if kind == "absolute" else 2
    if len(scaled) <= order:
        return None
    difference = np.diff(scaled, n=order, axis=0) * rate_hz**order
    return float(np.sqrt(np.mean(np.sum(difference**2, axis=1))))
