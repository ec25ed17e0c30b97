"""Measured curves as a JSON file, and what they say of a training run's validation loss."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from policy.errors import UsageError
from policy.spec import PolicySpec
from trainer.calibration.fit import bootstrap_band, leave_one_out

FORMAT = "tinyvla-calibration/1"
_FEWEST = 4  # checkpoints


@dataclass(frozen=True)
class Point:
    """One checkpoint, measured in closed loop."""

    checkpoint: str
    loss: float  # of its averaged weights on held-out episodes
    successes: int
    episodes: int  # over all tasks


@dataclass(frozen=True)
class Kind:
    """Losses of different kinds mean different things, and so do success rates on different tasks."""

    head: str
    prediction_type: str | None  # None for regression
    horizon: int
    tasks: tuple[str, ...]  # sorted

    @classmethod
    def of(cls, spec: PolicySpec) -> Kind:
        """Of the policies that a run makes."""
        predicted = spec.sampler.prediction_type if spec.sampler else None
        return cls(spec.head, predicted, spec.horizon, tuple(sorted(spec.instruction.by_task)))

    @property
    def title(self) -> str:
        """`diffusion (sample), 48 actions, reach, push`."""
        predicted = f" ({self.prediction_type})" if self.prediction_type else ""
        return f"{self.head}{predicted}, {self.horizon} actions, {', '.join(self.tasks)}"


def check_enough(kind: Kind, losses: Sequence[float]) -> None:
    """Raise UsageError where checkpoints of these losses are too few for a curve."""
    if len(set(losses)) < _FEWEST:
        raise UsageError(
            f"{kind.title}: a curve takes {_FEWEST} checkpoints of different validation losses, there are "
            f"{len(set(losses))}; keep more with `tinyvla train --keep-every`"
        )


@dataclass(frozen=True)
class Curve:
    """Success against validation loss, of one kind of policy."""

    kind: Kind
    points: tuple[Point, ...]
    loss: tuple[float, ...]  # rising
    rate: tuple[float, ...]  # falling
    low: tuple[float, ...]  # 95 % interval
    high: tuple[float, ...]
    error: float  # see `fit.Prediction`
    error_without_loss: float

    @classmethod
    def measured(cls, kind: Kind, points: Sequence[Point]) -> Curve:
        """Fit the points.

        Raises:
            UsageError: see `check_enough`.
        """
        check_enough(kind, [point.loss for point in points])
        ordered = sorted(points, key=lambda point: point.loss)
        loss, successes, episodes = (
            np.array([getattr(point, name) for point in ordered], float)
            for name in ("loss", "successes", "episodes")
        )
        band, off = bootstrap_band(loss, successes, episodes), leave_one_out(loss, successes, episodes)
        loss_at, rate, low, high = (
            tuple(values.tolist()) for values in (band.loss, band.rate, band.low, band.high)
        )
        return cls(kind, tuple(ordered), loss_at, rate, low, high, off.error, off.error_without_loss)

    def says(self, loss: float) -> str:
        """One line on a validation loss."""
        if not self.loss[0] <= loss <= self.loss[-1]:
            return (
                f"validation loss {loss:.3g}: no curve applies, success was measured from {self.loss[0]:.3g} to "
                f"{self.loss[-1]:.3g}"
            )
        low, high = (
            100 * float(np.interp(np.log(loss), np.log(self.loss), values))
            for values in (self.low, self.high)
        )
        return f"validation loss {loss:.3g}: such checkpoints succeeded {low:.0f}–{high:.0f} % on these tasks"


@dataclass(frozen=True)
class Calibration:
    """The curves of a file."""

    where: str
    curves: tuple[Curve, ...]

    def curve_for(self, spec: PolicySpec) -> Curve | None:
        """The one for policies of this contract."""
        return next((curve for curve in self.curves if curve.kind == Kind.of(spec)), None)

    def says_of(self, spec: PolicySpec) -> str:
        """Which curve a run is judged by, in one line."""
        kind = Kind.of(spec)
        if self.curve_for(spec) is not None:
            return f"success is read off {self.where}: {kind.title}"
        held = "; ".join(curve.kind.title for curve in self.curves)
        return f"no curve of {self.where} applies to {kind.title}: it holds {held}"


def write_calibration(path: Path, curves: Sequence[Curve]) -> None:
    """Store the curves."""
    document = {"format": FORMAT, "curves": [dataclasses.asdict(curve) for curve in curves]}
    path.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")


def read_calibration(path: Path) -> Calibration:
    """Read them back.

    Raises:
        UsageError: no such file, or not one of `tinyvla calibrate`.
    """
    try:
        document = json.loads(path.read_text())
        if document["format"] != FORMAT:
            raise ValueError(f"its format is not {FORMAT}")
        curves = tuple(_curve(values) for values in document["curves"])
    except OSError as error:
        raise UsageError(f"--calibration {path}: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"--calibration {path}: not a file of `tinyvla calibrate` ({error})") from None
    return Calibration(path.name, curves)


def _curve(values: dict[str, Any]) -> Curve:
    kind = {**values["kind"], "tasks": tuple(values["kind"]["tasks"])}
    points = tuple(Point(**point) for point in values["points"])
    lists = {name: tuple(map(float, values[name])) for name in ("loss", "rate", "low", "high")}
    if len({len(one) for one in lists.values()}) != 1 or not lists["loss"]:
        raise ValueError("a curve's columns differ in length")
    return Curve(**{**values, **lists, "kind": Kind(**kind), "points": points})
