"""Statistics of actions and states, raw and as the network gets them, and what is wrong with them."""

from __future__ import annotations

import numpy as np

from policy.normalize import to_unit
from policy.spec import RangeStats
from trainer.diagnosis.findings import Fault, Measured, figure
from trainer.diagnosis.subject import Subject

_DEGENERATE = 1e-6  # policy.normalize maps such a dimension to zero
_OUTSIDE = 10.0  # times the range that the statistics say; z-scores stay below, physical units seldom do
_TINY = 0.01  # of that range


def training_rows(subject: Subject, which: str) -> np.ndarray:
    """All control steps' actions or all frames' states [N, D] of the training episodes, physical units."""
    parts = []
    for cache, (episodes, _) in zip(subject.data.caches, subject.data.splits, strict=True):
        per = cache.actions_per_frame if which == "action" else 1
        values = cache.actions if which == "action" else cache.state
        starts = cache.episode_starts * per
        parts += [values[starts[e] : starts[e + 1]] for e in episodes]
    return np.concatenate(parts)


def normalised_actions(subject: Subject) -> np.ndarray:
    """[N, A], as the contract's statistics make them."""
    return to_unit(training_rows(subject, "action"), subject.spec.normalization.action)


def statistics_table(title: str, names: tuple[str, ...], raw: np.ndarray, stats: RangeStats) -> Measured:
    """Raw and normalised, dimension by dimension."""
    unit = to_unit(raw, stats)
    rows = []
    for number, name in enumerate(names):
        for told, values in ((name, raw), ("  normalised", unit)):
            found = [f(values[:, number]) for f in (np.mean, np.std, np.min, np.max)]
            rows.append((told, *(figure(float(value)) for value in found)))
    return Measured(title, ("", "mean", "std", "min", "max"), tuple(rows))


def statistics_faults(subject: Subject) -> list[Fault]:
    """Values that are not finite, actions that never vary, and actions that the statistics do not fit."""
    faults = []
    names = {"action": subject.spec.action.names, "state": subject.spec.state.names}
    for which in ("action", "state"):
        raw = training_rows(subject, which)
        bad = ~np.isfinite(raw)
        if bad.any():
            faults.append(
                Fault(
                    "not-finite",
                    f"{int(bad.any(1).sum())} of {len(raw)} {which} rows hold NaN or infinity",
                    "a recorder that wrote gaps as NaN",
                    "drop these frames, or the episodes they are in",
                )
            )
    raw = training_rows(subject, "action")
    constant = [
        f"{name} ({raw[0, i]:.4g})"
        for i, name in enumerate(names["action"])
        if np.ptp(raw[:, i]) < 2 * _DEGENERATE
    ]
    if constant:
        faults.append(
            Fault(
                "constant-action",
                f"never varies: {', '.join(constant)}",
                "a dimension that was not recorded, or that these demonstrations do not use: it can be learnt by "
                "anyone and makes every averaged loss look better",
                "leave it out of the actions, or record demonstrations that use it",
            )
        )
    unit = normalised_actions(subject)
    # A dimension whose range is degenerate maps to itself minus a constant; it was told above.
    varying = [i for i in range(unit.shape[1]) if np.ptp(raw[:, i]) >= 2 * _DEGENERATE]
    largest, spread = np.abs(unit).max(0), unit.std(0)
    wrong = [
        f"{names['action'][i]} (std {spread[i]:.3g}, largest {largest[i]:.3g})"
        for i in varying
        if largest[i] > _OUTSIDE or spread[i] < _TINY
    ]
    if wrong:
        faults.append(
            Fault(
                "not-normalised",
                f"normalised actions do not fill [-1, 1]: {', '.join(wrong)}",
                "the contract's statistics are not those of this data, or leave the actions in physical units; "
                "outliers can stretch them too",
                "statistics from this data (tinyvla train takes them), or clip outliers when recording",
            )
        )
    return faults
