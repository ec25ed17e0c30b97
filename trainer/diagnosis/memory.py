"""`tinyvla diagnose memory`: what a training step takes by batch size, and the largest batch for a card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from policy.errors import UsageError
from trainer.device import wants_bf16
from trainer.diagnosis.findings import Diagnosis, Fault, Measured
from trainer.diagnosis.memory_measured import measure
from trainer.diagnosis.memory_model import MB, Budget, largest_batch, predict
from trainer.diagnosis.subject import Subject, SubjectArgs

# What the CUDA context and the libraries' workspaces take of a card, and the share lost to the allocator's blocks.
_CONTEXT_MB = 600.0
_USABLE = 0.95
_OFF = 0.10
_FP32 = 4  # bytes
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


def bytes_each(weights_mb: float, million_parameters: float) -> float:
    """Bytes that a parameter takes when so many megabytes hold so many of them."""
    return weights_mb * MB / (million_parameters * 1e6)


def quoted_budget() -> str:
    """Why the budget that goes with this kind of policy, 583 + 583 + 1,166 MB for 73 M parameters, cannot be fp32."""
    quoted, parameters = 583.0, 73.0
    right = _FP32 * parameters
    return (
        f"a quoted budget of {quoted:.0f} (weights) + {quoted:.0f} (gradients) + {2 * quoted:,.0f} MB (Adam) for "
        f"{parameters:.0f} M parameters cannot be fp32: it has {bytes_each(quoted, parameters):.0f} bytes a number, "
        f"fp32 has {_FP32}. In fp32 they take {right:.0f} + {right:.0f} + {2 * right:.0f} MB = {4 * right:,.0f} MB; "
        f"{quoted:.0f} MB of fp32 weights are {quoted / _FP32:.0f} M parameters"
    )


def budget_row(budget: Budget) -> tuple[str, ...]:
    parts = (budget.weights, budget.average, budget.gradients, budget.adam, budget.batch, budget.activations)
    return (str(budget.batch_size), *(f"{part:,.1f}" for part in parts), f"{budget.peak:,.0f}")


_COLUMNS = ("batch", "weights", "average", "gradients", "Adam", "batch data", "activations", "peak")


def measured_table(
    subject: Subject, budgets: Mapping[int, Budget], bf16: bool
) -> tuple[Measured, list[Fault]]:
    """Take the steps, and compare."""
    rows, off = [], []
    for size, budget in budgets.items():
        found = measure(subject, size, bf16)
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
    if subject.spec.backbone is not None:
        raise UsageError(
            "diagnose memory knows nothing of backbones; look at the memory that the run reports"
        )
    own = subject.args.batch_size
    sizes = sorted({*given.batch_sizes, own})
    if sizes[0] < 1:
        raise UsageError(f"--batch-sizes must be 1 or more, got {sizes[0]}")
    for card in given.card:
        card_megabytes(card)  # a wrong one is told before the work
    bf16 = wants_bf16(subject.args.precision, subject.device)
    budgets = {size: predict(subject, size, bf16) for size in sizes}
    title = f"predicted, MB (10^6 bytes), {'bf16' if bf16 else 'fp32'}"
    faults: list[Fault] = []
    tables = [Measured(title, _COLUMNS, tuple(map(budget_row, budgets.values())))]
    if given.measure:
        table, wrong = measured_table(subject, budgets, bf16)
        tables, faults = [*tables, table], faults + wrong
    if given.card:
        line = budgets | {size: predict(subject, size, bf16) for size in _LINE if size not in budgets}
        table, wrong = cards_table(given.card, budgets[own], list(line.values()))
        tables, faults = [*tables, table], faults + wrong
    notes = (
        "the peak is less than the sum: gradients come as activations go",
        f"{subject.args.draws} noise draws per sample; the batch size counts samples",
        f"{budgets[own].weights / _FP32:.2f} M parameters of {_FP32} bytes; as much for their average and for their "
        "gradients, twice as much for Adam's two moments",
        quoted_budget(),
    )
    return Diagnosis(subject.about, tuple(tables), tuple(faults), notes)
