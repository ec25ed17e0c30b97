"""How far commands are from recorded ones, dimension by dimension."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from policy.spec import ActionSpec


@dataclass(frozen=True)
class Replayed:
    """One episode's commands, period by period."""

    number: int  # of the episode in the dataset
    task: str
    recorded: np.ndarray  # float32 [N, A], physical units
    given: np.ndarray  # float32 [N, A]
    counted: np.ndarray  # bool [N]: neither then nor now did the receiver hold


@dataclass(frozen=True)
class DimensionError:
    """Of one dimension of the action, in its own unit; None where nothing could be compared."""

    name: str
    unit: str
    mean_abs: float | None
    rms: float | None
    p95_abs: float | None
    max_abs: float | None
    bias: float | None  # mean of given less recorded
    recorded_std: float | None  # for scale: the rms error of whoever always commands the recording's mean
    share_of_range: float | None  # mean_abs over high less low


def dimension_errors(episodes: Sequence[Replayed], action: ActionSpec) -> list[DimensionError]:
    """Over all counted periods of all episodes."""
    recorded = np.concatenate([one.recorded[one.counted] for one in episodes]).astype(np.float64)
    error = np.concatenate([one.given[one.counted] for one in episodes]).astype(np.float64) - recorded
    found = []
    for dim, (name, unit) in enumerate(zip(action.names, action.units, strict=True)):
        if not len(error):
            found.append(DimensionError(name, unit, None, None, None, None, None, None, None))
            continue
        off = np.abs(error[:, dim])
        found.append(
            DimensionError(
                name=name,
                unit=unit,
                mean_abs=_rounded(off.mean()),
                rms=_rounded(np.sqrt((off**2).mean())),
                p95_abs=_rounded(np.percentile(off, 95)),
                max_abs=_rounded(off.max()),
                bias=_rounded(error[:, dim].mean()),
                recorded_std=_rounded(recorded[:, dim].std()),
                share_of_range=_rounded(off.mean() / (action.high[dim] - action.low[dim])),
            )
        )
    return found


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
