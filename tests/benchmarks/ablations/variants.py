"""What is varied: which trainings there are, and what is measured of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from clients.chunk_buffer import ChunkPolicy
from tests.benchmarks.ablations.settings import Group

DDIM_STEPS = (1, 2, 5, 10, 100)
DEFAULT_STEPS = 10  # of the trainer


@dataclass(frozen=True)
class Training:
    """One training: its data, and the flags in which it differs from the default."""

    name: str
    flags: tuple[str, ...] = ()
    noise: float = 1.0  # of the demonstrations

    @property
    def data(self) -> str:
        """Name of its dataset."""
        return "noisy" if self.noise else "clean"


DEFAULT = Training("default")
TRAININGS = (
    DEFAULT,
    Training("epsilon", ("--prediction-type", "epsilon")),
    Training("v_prediction", ("--prediction-type", "v_prediction")),
    Training("no-prefix", ("--max-prefix", "0")),
    Training("no-shift", ("--shift", "0")),
    Training("clean-data", noise=0.0),
    Training("regression", ("--head", "regression")),
)
_BY_NAME = {training.name: training for training in TRAININGS}


@dataclass(frozen=True)
class Variant:
    """One row of the table: a training, and how it is evaluated."""

    name: str
    group: Group | None  # None: the default
    says: str
    training: Training = field(default=DEFAULT)
    ddim_steps: int | None = None  # None: the policy's own
    temperature: float | None = None  # of the noise that sampling starts from; None: the policy's own, 1
    weights: Literal["ema", "model"] = "ema"
    chunk_policy: ChunkPolicy | None = None  # None: in lock-step; otherwise delayed, under this one
    against: str = "default"  # the row that it is compared with


def _prediction_rows() -> list[Variant]:
    rows = []
    for name, training in (
        ("sample", "default"),
        ("epsilon", "epsilon"),
        ("v_prediction", "v_prediction"),
    ):
        for steps in DDIM_STEPS:
            if (training, steps) != ("default", DEFAULT_STEPS):
                says = f"{name}, {steps} DDIM step{'s' * (steps > 1)}"
                rows.append(Variant(f"{name}-{steps}", "prediction", says, _BY_NAME[training], steps))
    return rows


def _temperature_rows() -> list[Variant]:
    return [
        Variant(
            f"{name}-{steps}-no-noise", "temperature", f"{name}, {steps} DDIM steps from no noise", _BY_NAME[training],
            steps, temperature=0.0,
        )
        for name, training, steps in (
            ("sample", "default", 2),
            ("sample", "default", DEFAULT_STEPS),
            ("epsilon", "epsilon", DEFAULT_STEPS),
            ("v_prediction", "v_prediction", DEFAULT_STEPS),
        )
    ]  # fmt: skip


def _from_no_noise(training: str, group: Group, says: str) -> Variant:
    return Variant(
        f"{training}-no-noise", group, f"{says}, from no noise", _BY_NAME[training], temperature=0.0,
        against=f"sample-{DEFAULT_STEPS}-no-noise",
    )  # fmt: skip


def all_variants(delay_ms: float) -> list[Variant]:
    """Every row, the default first."""
    late = f"{delay_ms:.0f} ms late"
    without = _BY_NAME["no-prefix"]
    return [
        Variant("default", None, f"sample, {DEFAULT_STEPS} DDIM steps"),
        *_prediction_rows(),
        *_temperature_rows(),
        Variant("no-prefix", "prefix", "trained without prefixes", without),
        _from_no_noise("no-prefix", "prefix", "trained without prefixes"),
        Variant("late-rtc", "prefix", f"chunks {late}, continuing a prefix", chunk_policy="rtc"),
        Variant(
            "late-receding", "prefix", f"chunks {late}, no prefix given", chunk_policy="receding", against="late-rtc"
        ),
        Variant(
            "late-no-prefix", "prefix", f"chunks {late}, trained without prefixes", without,
            chunk_policy="receding", against="late-rtc",
        ),
        Variant("raw-weights", "ema", "raw weights", weights="model"),
        Variant("no-shift", "crops", "images never shifted", _BY_NAME["no-shift"]),
        _from_no_noise("no-shift", "crops", "images never shifted"),
        Variant("clean-data", "noise", "demonstrations without pushes", _BY_NAME["clean-data"]),
        _from_no_noise("clean-data", "noise", "demonstrations without pushes"),
        Variant("regression", "head", "regression", _BY_NAME["regression"]),
    ]  # fmt: skip


def chosen_variants(only: Sequence[Group], delay_ms: float) -> list[Variant]:
    """The default, the rows of these groups, and those that they are compared with."""
    rows = all_variants(delay_ms)
    compared_with = {row.against for row in rows if row.group in only}
    return [row for row in rows if row.group is None or row.group in only or row.name in compared_with]


def trainings_of(variants: Sequence[Variant]) -> list[Training]:
    """Those that the rows need, each once."""
    return list(dict.fromkeys(row.training for row in variants))
