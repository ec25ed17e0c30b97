"""`tinyvla diagnose loss-values`: what a loss of this size means, and whether the logged one is the true one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from trainer.diagnosis.findings import Diagnosis, Fault, Measured, figure
from trainer.diagnosis.probe import Probe, probe
from trainer.diagnosis.subject import Subject
from trainer.epoch_report import EpochReport

# Half a percent above "says nothing at all": a fresh network sits at it, to within the noise of the sample.
_WORSE = 1.05
_BINS = 10
# Spreads of a prediction that knows nothing of a unit-variance target, and the loss that goes with each.
_SIGMAS = (0.0, 0.1, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 37.4)


def sigma_table() -> Measured:
    """E[(p - t)^2] = sigma^2 + 1 for a prediction of spread sigma that is independent of a target of variance 1."""
    rows = tuple((figure(sigma), figure(sigma**2 + 1)) for sigma in _SIGMAS)
    return Measured(
        "a guess of spread σ, unrelated to a target of variance 1",
        ("σ of the prediction", "loss σ² + 1"),
        rows,
    )


def _statistics(name: str, values: np.ndarray) -> tuple[str, ...]:
    return (name, *(figure(float(f(values))) for f in (np.mean, np.std, np.min, np.max)))


def chunk_statistics(found: Probe) -> Measured:
    """Mean, spread and range of what the trunk was given, said, and should have said."""
    parts = {"input": found.chunk, "predicted": found.output, "target": found.target}
    rows = tuple(_statistics(name, values[found.counted]) for name, values in parts.items())
    return Measured("normalised actions or noise", ("", "mean", "std", "min", "max"), rows)


def timestep_table(found: Probe, train_steps: int) -> Measured:
    """Loss by noise level, beside that of always saying zero."""
    edges = np.linspace(0, train_steps, min(_BINS, train_steps) + 1).round().astype(int)
    rows = []
    for first, end in itertools.pairwise(edges):
        chosen = np.flatnonzero((found.timestep >= first) & (found.timestep < end))
        if len(chosen):
            part = found.only(chosen)
            explained = 1 - part.loss / part.target_power if part.target_power else math.nan
            rows.append(
                (
                    f"{first}–{end - 1}",
                    figure(part.loss),
                    figure(part.target_power),
                    f"{100 * explained:.0f} %",
                )
            )
    return Measured("by timestep", ("timestep", "loss", "loss of saying zero", "explained"), tuple(rows))


def logged_table(epochs: tuple[EpochReport, ...]) -> Measured:
    """The run's own figures, the last ten epochs."""
    rows = tuple(
        (str(e.epoch + 1), f"{e.loss:.4f}", f"{e.validation:.4f}", f"{e.gradient_norm:.3g}")
        for e in epochs[-10:]
    )
    return Measured("as the run logged it", ("epoch", "loss", "validation", "gradient norm"), rows)


def clipped(epochs: Sequence[EpochReport], own: Sequence[EpochReport], measured: float) -> str | None:
    """How a log shows that the loss had a ceiling; None where it shows nothing of the kind.

    Args:
        epochs: of the whole run.
        own: those up to the weights on which the loss was measured.
    """
    for before, after in itertools.pairwise(epochs):
        if before.loss == after.loss and after.loss > 0:
            return (
                f"epochs {before.epoch + 1} and {after.epoch + 1} logged the very same loss, {after.loss:.6g}"
            )
    if epochs:
        last = epochs[-1]
        if last.gradient_norm < 1e-9 and last.loss > 1e-3:
            return f"the gradient's norm is {last.gradient_norm:.1g} at a loss of {last.loss:.4g}"
    if own and measured > 10 * own[-1].loss and own[-1].loss > 1e-3:
        return (
            f"epoch {own[-1].epoch + 1} logged a loss of {own[-1].loss:.4g}, which measures as {measured:.4g}"
        )
    return None


def diagnose(subject: Subject) -> Diagnosis:
    """Measure on training samples, without augmentation."""
    found = probe(subject, subject.network)
    loss, nothing = found.loss, found.target_power
    tables = [chunk_statistics(found)]
    if subject.spec.sampler is not None:
        tables += [timestep_table(found, subject.spec.sampler.train_steps), sigma_table()]
    if subject.epochs:
        tables.append(logged_table(subject.epochs))
    notes = [f"loss {loss:.4g}; a network that always says zero gets {nothing:.4g}"]
    if loss > nothing > 0:
        spread = math.sqrt((loss - nothing) / nothing)
        notes.append(
            f"that is what a guess gets whose spread is {spread:.2g} of the target's (σ² + 1, in its units)"
        )
    faults = []
    evidence = clipped(subject.epochs, subject.own_epochs, loss)
    if evidence is not None:
        faults.append(
            Fault(
                "clipped-loss",
                evidence,
                "the loss is clamped before the backward pass: where it is largest it has no gradient, and the log "
                "hides how large it is",
                "clip the gradient's norm (--max-grad-norm), never the loss; then look at loss-explosion",
            )
        )
    if not math.isfinite(loss) or loss > _WORSE * nothing:
        faults.append(
            Fault(
                "worse-than-nothing",
                f"a loss of {loss:.4g} where saying zero would get {nothing:.4g}",
                "outputs far larger than their target: default initialisation of the output layer, a learning rate "
                "that is too high, or statistics that do not fit the data",
                "see loss-explosion for the first two, data for the third",
            )
        )
    return Diagnosis(subject.about, tuple(tables), tuple(faults), tuple(notes))
