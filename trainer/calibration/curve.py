"""Measured curves as a JSON file, and what they say of a training run's validation loss."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from policy.errors import UsageError
from policy.spec import PolicySpec
from trainer.calibration.fit import Counts, Prediction, bootstrap_band, predict_left_out

FORMAT = "tinyvla-calibration/3"
_FEWEST = 4  # checkpoints


@dataclass(frozen=True)
class Point:
    """One checkpoint, measured in closed loop."""

    checkpoint: str  # RUN/NAME
    loss: float  # of its averaged weights on held-out episodes
    successes: int
    episodes: int  # over all tasks


@dataclass(frozen=True)
class Kind:
    """Losses of different kinds mean different things, and so do success rates on different tasks."""

    head: str
    sampling: str | None  # "sample, 100 timesteps, 10 DDIM steps, temperature 0"; None for regression
    horizon: int
    tasks: tuple[str, ...]  # sorted
    data: tuple[str, ...]  # SHA-256 of the datasets, sorted
    held_out: tuple[float, int]  # --val-split and --split-seed: which of their episodes make the loss

    @classmethod
    def of(cls, spec: PolicySpec, data: Iterable[str], held_out: tuple[float, int]) -> Kind:
        """Of the policies that a run on these datasets makes."""
        sampler, sampling = spec.sampler, None
        if sampler is not None:
            sampling = f"{sampler.prediction_type}, {sampler.train_steps} timesteps, {sampler.default_steps} DDIM steps"
            if sampler.temperature != 1:
                sampling += f", temperature {sampler.temperature:g}"
        tasks = tuple(sorted(spec.instruction.by_task))
        return cls(spec.head, sampling, spec.horizon, tasks, tuple(sorted(data)), held_out)

    @property
    def title(self) -> str:
        """`diffusion (sample, 100 timesteps, 10 DDIM steps), 48 actions, push, reach`."""
        sampling = f" ({self.sampling})" if self.sampling else ""
        return f"{self.head}{sampling}, {self.horizon} actions, {', '.join(self.tasks)}"


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
    low: tuple[float, ...]  # 95 % of such checkpoints lie between these
    high: tuple[float, ...]
    prediction: Prediction

    @classmethod
    def measured(cls, kind: Kind, points: Sequence[Point]) -> Curve:
        """Fit the points.

        Raises:
            UsageError: see `check_enough`.
        """
        check_enough(kind, [point.loss for point in points])
        ordered = sorted(points, key=lambda point: point.loss)
        counts = Counts.of([(point.loss, point.successes, point.episodes) for point in ordered])
        runs = [point.checkpoint.partition("/")[0] for point in ordered]
        band = bootstrap_band(counts)
        loss, rate, low, high = (
            tuple(values.tolist()) for values in (band.loss, band.rate, band.low, band.high)
        )
        return cls(kind, tuple(ordered), loss, rate, low, high, predict_left_out(counts, runs))

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

    def curve_for(self, kind: Kind) -> Curve | None:
        """The one for policies of this kind."""
        return next((curve for curve in self.curves if curve.kind == kind), None)

    def says_of(self, kind: Kind) -> str:
        """Which curve a run is judged by, in one line."""
        if self.curve_for(kind) is not None:
            return f"success is read off {self.where}: {kind.title}"
        alike = [dataclasses.replace(curve.kind, held_out=kind.held_out) for curve in self.curves]
        if kind in alike:
            return (
                f"no curve of {self.where} applies to {kind.title}: other episodes were held out (--val-split, "
                "--split-seed), whose losses mean something else"
            )
        if any(dataclasses.replace(curve, data=kind.data) == kind for curve in alike):
            return (
                f"no curve of {self.where} applies to {kind.title}: it was measured on other demonstrations, whose "
                "losses mean something else"
            )
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
    kind = {**values["kind"], **{name: tuple(values["kind"][name]) for name in ("tasks", "data", "held_out")}}
    points = tuple(Point(**point) for point in values["points"])
    lists = {name: tuple(map(float, values[name])) for name in ("loss", "rate", "low", "high")}
    if len({len(one) for one in lists.values()}) != 1 or not lists["loss"]:
        raise ValueError("a curve's columns differ in length")
    prediction = Prediction(**values["prediction"])
    return Curve(**{**values, **lists, "kind": Kind(**kind), "points": points, "prediction": prediction})
