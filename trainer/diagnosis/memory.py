"""`tinyvla diagnose memory`: what a training step takes by batch size, and the largest batch for a card."""

from __future__ import annotations

from dataclasses import dataclass

from policy.errors import UsageError
from trainer.device import wants_bf16
from trainer.diagnosis.findings import Diagnosis, Fault, Measured
from trainer.diagnosis.memory_model import MB, Budget, largest_batch, measure, predict
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

    batch_sizes: tuple[int, ...] = (1, 4, 16, 64)
    """Batch sizes to predict, besides the run's own."""
    card: tuple[str, ...] = tuple(CARDS)
    """Cards to name the largest batch for: a name of the list, or gigabytes such as `24`."""
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


def budget_row(budget: Budget) -> tuple[str, ...]:
    parts = (budget.weights, budget.average, budget.gradients, budget.adam, budget.batch, budget.activations)
    return (str(budget.batch_size), *(f"{part:,.1f}" for part in parts), f"{budget.peak:,.0f}")


_COLUMNS = ("batch", "weights", "average", "gradients", "Adam", "batch data", "activations", "peak")


def diagnose(subject: Subject) -> Diagnosis:
    """Predict for the processor's or the card's number format, whichever the run would use."""
    given = subject.given if isinstance(subject.given, MemoryArgs) else MemoryArgs(subject.given.path)
    if subject.spec.backbone is not None:
        raise UsageError(
            "diagnose memory knows nothing of backbones; look at the memory that the run reports"
        )
    sizes = sorted({*given.batch_sizes, subject.args.batch_size})
    if sizes[0] < 1:
        raise UsageError(f"--batch-sizes must be 1 or more, got {sizes[0]}")
    bf16 = wants_bf16(subject.args.precision, subject.device)
    budgets = {size: predict(subject, size, bf16) for size in sizes}
    precision = "bf16" if bf16 else "fp32"
    tables = [
        Measured(
            f"predicted, MB (10^6 bytes), {precision}", _COLUMNS, tuple(map(budget_row, budgets.values()))
        )
    ]
    faults, notes = [], [
        "the peak is less than the sum: gradients come as activations go",
        f"{subject.args.draws} noise draws per sample; the batch size counts samples",
    ]  # fmt: skip
    if given.measure:
        rows, off = [], []
        for size, budget in budgets.items():
            found = measure(subject, size, bf16)
            rows.append(
                (
                    str(size),
                    f"{budget.peak:,.0f}",
                    f"{found:,.0f}",
                    f"{100 * (budget.peak / found - 1):+.1f} %",
                )
            )
            if abs(budget.peak / found - 1) > _OFF:
                off.append(f"batch {size}: {budget.peak:,.0f} MB predicted, {found:,.0f} measured")
        where = (
            "the card's allocator" if subject.device.type == "cuda" else "torch's allocator on the processor"
        )
        tables.append(
            Measured(f"measured by {where}", ("batch", "predicted", "measured", "off by"), tuple(rows))
        )
        if off:
            faults.append(
                Fault(
                    "prediction-off",
                    "; ".join(off),
                    "this torch or device keeps other tensors than the prediction knows of",
                    "go by the measured figures, with --measure for the batch you want",
                )
            )
    fits = []
    for card in given.card:
        room = card_megabytes(card)
        most = largest_batch(subject, room, bf16)
        fits.append((card, f"{room:,.0f}", "none" if most is None else f"{most.batch_size:,}",
                     "" if most is None else f"{most.peak:,.0f}"))  # fmt: skip
        if len(given.card) == 1 and (most is None or most.batch_size < subject.args.batch_size):
            faults.append(
                Fault(
                    "does-not-fit",
                    f"a batch of {subject.args.batch_size} takes {budgets[subject.args.batch_size].peak:,.0f} MB; "
                    f"{card} leaves {room:,.0f}",
                    "activations grow with the batch, the images and the noise draws",
                    "the batch size above with --grad-accum for the rest, or fewer --draws",
                )
            )
    tables.append(
        Measured("largest batch by card", ("card", "MB left to training", "batch", "peak"), tuple(fits))
    )
    return Diagnosis(subject.about, tuple(tables), tuple(faults), tuple(notes))
