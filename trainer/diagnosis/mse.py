"""`tinyvla diagnose mse`: where the error sits: which action, which place in the chunk, before and after sampling."""

from __future__ import annotations

import itertools
import math

import numpy as np

from policy.normalize import from_unit
from trainer.diagnosis.findings import Diagnosis, Fault, Measured, figure
from trainer.diagnosis.probe import Probe, batches, probe
from trainer.diagnosis.subject import Subject
from trainer.drawn_chunks import drawn_chunks

_PARTS = 6  # of a chunk
# A trained network explains most of every action's variance; one at zero or below has learnt nothing of it.
_NOTHING = 0.0


def explained(error: np.ndarray, values: np.ndarray) -> float:
    """1 - mean squared error over variance; NaN for what does not vary."""
    variance = float(values.var())
    return 1 - float((error**2).mean()) / variance if variance > 1e-12 else math.nan


def by_place(found: Probe) -> Measured:
    """Error along the chunk."""
    horizon = found.target.shape[1]
    edges = np.linspace(0, horizon, min(_PARTS, horizon) + 1).round().astype(int)
    rows = []
    for first, end in itertools.pairwise(edges):
        counted = found.counted[:, first:end]
        if counted.any():
            error, target = (v[:, first:end][counted] for v in (found.output - found.target, found.target))
            rows.append(
                (f"{first}–{end - 1}", figure(float((error**2).mean())), figure(float((target**2).mean())))
            )
    return Measured("along the chunk, normalised", ("action", "error²", "target²"), tuple(rows))


def acted(subject: Subject) -> tuple[np.ndarray, np.ndarray]:
    """Actions of the policy's steady chunk and of the data, where the loss counts: float32 [N, A], physical units.

    A chunk drawn at full noise holds corrections of pushes as the data do, at other moments: half its error is that.
    """
    drawn, true = [], []
    for example, _ in batches(subject, subject.data.train, draws=1):
        demonstrated = np.arange(subject.spec.horizon) >= example.lead.cpu().numpy()[:, None]
        counted = example.valid.cpu().numpy() & demonstrated
        drawn.append(
            drawn_chunks(subject.network, subject.spec, example, subject.seed, temperature=0.0)[counted]
        )
        actions = from_unit(example.actions.cpu().numpy(), subject.spec.normalization.action)
        true.append(actions[counted])
    return np.concatenate(drawn), np.concatenate(true)


def diagnose(subject: Subject) -> Diagnosis:
    """Of a trained network the errors; of a dataset what a network that knows nothing gets."""
    found = probe(subject, subject.network)
    drawn, true = acted(subject)
    rows, hopeless = [], []
    for number, (name, unit) in enumerate(
        zip(subject.spec.action.names, subject.spec.action.units, strict=True)
    ):
        error = drawn[:, number] - true[:, number]
        share = explained(error, true[:, number])
        rows.append((
            f"{name} [{unit}]", figure(float(true[:, number].std())), figure(float(np.sqrt((error**2).mean()))),
            "does not vary" if math.isnan(share) else f"{100 * share:.0f} %",
        ))  # fmt: skip
        if subject.checkpoint is not None and share <= _NOTHING:
            hopeless.append(f"{name} ({100 * share:.0f} %)")
    tables = [
        Measured(
            "actions of the steady chunk (noise 0), physical units",
            ("action", "spread", "RMS error", "explained"),
            tuple(rows),
        ),
        by_place(found),
    ]
    faults = []
    if hopeless:
        faults.append(
            Fault(
                "worse-than-the-mean",
                f"of the variance of these actions the policy explains nothing: {', '.join(hopeless)}",
                "trained too little, statistics that do not fit the data, or images and actions that do not belong "
                "together",
                "see data and loss-values; if both are clean, train on",
            )
        )
    notes = [
        f"mean squared error of the network's own target: {found.loss:.4g} (saying zero: {found.target_power:.4g})"
    ]
    if subject.checkpoint is None:
        notes.append("a fresh network: these are the figures of knowing nothing")
    return Diagnosis(subject.about, tuple(tables), tuple(faults), tuple(notes))
