"""`tinyvla diagnose memory`: what a training step takes by batch size, and the largest batch for a card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from policy.errors import UsageError
from trainer.device import wants_bf16
from trainer.diagnosis.findings import Diagnosis, Fault, Measured
from trainer.diagnosis.memory_backbone import loaded_once, reads_features
from trainer.diagnosis.memory_measured import measure
from trainer.diagnosis.memory_model import MB, Budget, largest_batch, predict
from trainer.diagnosis.memory_notes import notes_on
from trainer.diagnosis.subject import Subject, SubjectArgs

# What the CUDA context and the libraries' workspaces take of a card, and the share lost to the allocator's blocks.
_CONTEXT_MB = 600.0
_USABLE = 0.95
_OFF = 0.10
CARDS = {"RTX 4060": 8, "RTX 4090": 24, "L40S": 48, "A100": 80, "H200": 141}  # GB as their makers count them
_GB = 1024**3


@dataclass(frozen=True)
class MemoryArgs(SubjectArgs):
    """Predict the memory of a training step from shapes alone."""

    batch_sizes: tuple[int, ...] = (1, 32, 64)
    """Batch sizes to predict, besides the run's own."""
    card: tuple[str, ...] = tuple(CARDS)
    """Cards to name the largest batch for: a name of the list, or gigabytes such as `24`. Given one, a batch of the
    run's own size that does not fit it is a fault."""
    measure: bool = False
    """Also take the steps, and compare."""


def card_megabytes(card: str) -> float:
    """What a card leaves to a training step.

    Raises:
        UsageError: neither a known card nor a number.
    """
    by_name = {name.lower().replace(" ", ""): size for name, size in CARDS.items()}
    wanted = card.lower().replace(" ", "")
    try:
        size = by_name[wanted] if wanted in by_name else float(wanted.removesuffix("gb"))
    except ValueError:
        raise UsageError(f"--card {card}: give gigabytes, or one of {', '.join(CARDS)}") from None
    if not 0 < size < 1e6:
        raise UsageError(f"--card {card}: not a card's gigabytes")
    return size * _GB / MB * _USABLE - _CONTEXT_MB


_COLUMNS = ("batch", "weights", "average", "gradients", "Adam", "batch data", "activations", "peak")
_WITH_BACKBONE = (*_COLUMNS[:2], "frozen", *_COLUMNS[2:])


def budget_table(budgets: Sequence[Budget], bf16: bool, has_backbone: bool) -> Measured:
    """A row a batch size."""
    title = f"predicted, MB (10^6 bytes), {'bf16' if bf16 else 'fp32'}"
    columns = _WITH_BACKBONE if has_backbone else _COLUMNS
    return Measured(title, columns, tuple(budget_row(budget, has_backbone) for budget in budgets))


def budget_row(budget: Budget, has_backbone: bool) -> tuple[str, ...]:
    frozen = (budget.frozen,) if has_backbone else ()
    trained = (budget.average, budget.gradients, budget.adam)
    parts = (budget.weights, *frozen, *trained, budget.batch, budget.activations)
    return (str(budget.batch_size), *(f"{part:,.1f}" for part in parts), f"{budget.peak:,.0f}")


def measured_table(
    subject: Subject, budgets: Mapping[int, Budget], bf16: bool, from_cache: bool
) -> tuple[Measured, list[Fault]]:
    """Take the steps, and compare."""
    rows, off = [], []
    for size, budget in budgets.items():
        found = measure(subject, size, bf16, from_cache)
        error = budget.peak / found - 1
        rows.append((str(size), f"{budget.peak:,.0f}", f"{found:,.0f}", f"{100 * error:+.1f} %"))
        if abs(error) > _OFF:
            off.append(f"batch {size}: {budget.peak:,.0f} MB predicted, {found:,.0f} measured")
    where = "the card's allocator" if subject.device.type == "cuda" else "torch's allocator on the processor"
    table = Measured(f"measured by {where}", ("batch", "predicted", "measured", "off by"), tuple(rows))
    if not off:
        return table, []
    return table, [
        Fault(
            "prediction-off",
            "; ".join(off),
            "this torch or device keeps other tensors than the prediction knows of",
            "go by the measured figures, with --measure for the batch you want",
        )
    ]


_LINE = (32, 64)  # batches that the line to larger ones is drawn through


def cards_table(cards: Sequence[str], own: Budget, budgets: Sequence[Budget]) -> tuple[Measured, list[Fault]]:
    """The largest batch for each card; one card that the run's own batch does not fit is a fault."""
    rows, faults = [], []
    for card in cards:
        room = card_megabytes(card)
        most = largest_batch(budgets, room)
        told = ("none", "") if most is None else (f"{most[0]:,}", f"{most[1]:,.0f}")
        rows.append((card, f"{room:,.0f}", *told))
        if len(cards) == 1 and (most is None or most[0] < own.batch_size):
            faults.append(
                Fault(
                    "does-not-fit",
                    f"a batch of {own.batch_size} takes {own.peak:,.0f} MB; {card} leaves {room:,.0f}",
                    "activations grow with the batch, the images and the noise draws",
                    "the batch size above with --grad-accum for the rest, or fewer --draws",
                )
            )
    return Measured(
        "largest batch by card", ("card", "MB left to training", "batch", "peak"), tuple(rows)
    ), faults


def diagnose(subject: Subject) -> Diagnosis:
    """Predict for the processor's or the card's number format, whichever the run would use."""
    given = subject.given if isinstance(subject.given, MemoryArgs) else MemoryArgs(subject.given.path)
    sizes = sorted({*given.batch_sizes, subject.args.batch_size})
    if sizes[0] < 1:
        raise UsageError(f"--batch-sizes must be 1 or more, got {sizes[0]}")
    for card in given.card:
        card_megabytes(card)  # a wrong one is told before the work
    with loaded_once(subject.spec):
        return _predicted(subject, given, sizes)


def _predicted(subject: Subject, given: MemoryArgs, sizes: Sequence[int]) -> Diagnosis:
    own, has_backbone = subject.args.batch_size, subject.spec.backbone is not None
    bf16, from_cache = wants_bf16(subject.args.precision, subject.device), reads_features(subject)
    budgets = {size: predict(subject, size, bf16, from_cache) for size in sizes}
    faults: list[Fault] = []
    tables = [budget_table(list(budgets.values()), bf16, has_backbone)]
    if given.measure:
        table, wrong = measured_table(subject, budgets, bf16, from_cache)
        tables, faults = [*tables, table], faults + wrong
    if given.card:
        further = [size for size in _LINE if size not in budgets]
        line = budgets | {size: predict(subject, size, bf16, from_cache) for size in further}
        table, wrong = cards_table(given.card, budgets[own], list(line.values()))
        tables, faults = [*tables, table], faults + wrong
    fills = subject.args.feature_cache is not None and not from_cache
    later = predict(subject, own, bf16, from_cache=True) if fills else None
    notes = notes_on(subject, budgets[own], later, from_cache)
    return Diagnosis(subject.about, tuple(tables), tuple(faults), notes)
