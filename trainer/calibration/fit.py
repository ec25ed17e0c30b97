"""Success against loss: a logistic curve that never rises with it, bootstrap intervals, and how well it predicts.

Checkpoints of one loss may differ in success by more than the chance of their episodes. That scatter is in the
intervals: they are about a checkpoint, not about the mean of all those that have its loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_RESAMPLES = 400
_GRID = 33
_BOUNDS = (2.5, 97.5)  # percentiles
# Prior on both coefficients (of the standardised log loss): keeps the fit finite where every episode went the same way.
_RIDGE = 1e-2


@dataclass(frozen=True)
class Counts:
    """What was measured of N checkpoints, float64 [..., N] each; leading dimensions are resamples, fitted together."""

    loss: np.ndarray  # above 0
    successes: np.ndarray
    episodes: np.ndarray

    @classmethod
    def of(cls, rows: Sequence[tuple[float, int, int]]) -> Counts:
        """From (loss, successes, episodes) of each checkpoint."""
        return cls(*np.array(rows, float).T)

    def __getitem__(self, chosen: np.ndarray) -> Counts:
        return Counts(self.loss[chosen], self.successes[chosen], self.episodes[chosen])


@dataclass(frozen=True)
class Fit:
    """P(success) = sigmoid(level - slope * z), z the standardised logarithm of the loss; float64 [...] each."""

    level: np.ndarray
    slope: np.ndarray  # 0 or more
    center: np.ndarray  # of log loss
    scale: np.ndarray

    def rate(self, loss: np.ndarray, offset: float | np.ndarray = 0.0) -> np.ndarray:
        """Success rates [..., M] at losses [M], of checkpoints that are off the curves by `offset` [...], log odds."""
        level = self.level + np.asarray(offset)
        z = (np.log(loss) - self.center[..., None]) / self.scale[..., None]
        return _sigmoid(level[..., None] - self.slope[..., None] * z)


def _sigmoid(odds: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(odds / 2))  # which never overflows


def fit_logistic(counts: Counts) -> Fit:
    """Most likely curves of binomial counts."""
    logs = np.log(counts.loss)
    center = logs.mean(-1)
    # The mean of equal numbers need not be that number: rounding is no spread to divide by.
    scale = np.where(np.ptp(logs, axis=-1) > 0, logs.std(-1), 1.0)
    z = (logs - center[..., None]) / scale[..., None]
    both = _newton(np.stack([np.ones_like(z), -z], -1), counts)
    # The likelihood is concave: where its best point rises with the loss, the best that does not is flat.
    flat = _newton(np.ones_like(z)[..., None], counts)
    rises = both[..., 1] < 0
    level, slope = np.where(rises, flat[..., 0], both[..., 0]), np.where(rises, 0.0, both[..., 1])
    return Fit(level, slope, center, scale)


def _newton(design: np.ndarray, counts: Counts) -> np.ndarray:
    """Coefficients [..., K] of a design [..., N, K]."""
    coefficients = np.zeros((*design.shape[:-2], design.shape[-1]))
    ridge = _RIDGE * np.eye(design.shape[-1])
    for _ in range(50):
        rate = _sigmoid(np.einsum("...nk,...k->...n", design, coefficients))
        gradient = np.einsum("...nk,...n->...k", design, counts.successes - counts.episodes * rate)
        weight = counts.episodes * rate * (1 - rate)
        curvature = np.einsum("...nk,...n,...nj->...kj", design, weight, design)
        step = np.linalg.solve(curvature + ridge, (gradient - _RIDGE * coefficients)[..., None])[..., 0]
        longest = np.abs(step).max(-1, keepdims=True)
        coefficients = coefficients + step * np.minimum(1.0, 4.0 / np.maximum(1e-12, longest))
        if longest.max() < 1e-9:
            break
    return coefficients


def scatter(counts: Counts, fit: Fit) -> float:
    """Standard deviation, in log odds, of checkpoints [N] about the curve, beyond the chance of their episodes.

    By moments (Williams, 1982): a checkpoint's squared Pearson residual has the mean 1 + (n - 1) p (1 - p) times the
    variance, less the share by which the checkpoint pulls the curve to itself.
    """
    rate, n = fit.rate(counts.loss), counts.episodes
    chance = n * rate * (1 - rate)
    z = (np.log(counts.loss) - fit.center) / fit.scale
    design = np.stack([np.ones_like(z), z], -1)
    inverse = np.linalg.pinv(np.einsum("nk,n,nj->kj", design, chance, design))
    free = 1 - chance * np.einsum("nk,kj,nj->n", design, inverse, design)
    excess = ((counts.successes - n * rate) ** 2 / chance).sum() - free.sum()
    return float(np.sqrt(max(0.0, excess / max(1e-12, (free * (n - 1) * rate * (1 - rate)).sum()))))


def _likely_rates(counts: Counts, loss: np.ndarray, seed: int) -> np.ndarray:
    """[400, len(loss)]: rates that checkpoints of these losses may have.

    The curve is fitted to resampled checkpoints, whose episodes are drawn anew; a checkpoint is as far off the curve as
    those are that were measured, and a few checkpoints know that but roughly: hence Student's t.
    """
    rng = np.random.default_rng(seed)
    chosen = counts[rng.integers(len(counts.loss), size=(_RESAMPLES, len(counts.loss)))]
    smoothed = (chosen.successes + 0.5) / (
        chosen.episodes + 1
    )  # 20 of 20 does not mean that no episode fails
    drawn = rng.binomial(chosen.episodes.astype(int), smoothed).astype(float)
    offsets = scatter(counts, fit_logistic(counts)) * rng.standard_t(max(1, len(counts.loss) - 2), _RESAMPLES)
    return fit_logistic(Counts(chosen.loss, drawn, chosen.episodes)).rate(loss, offsets)


@dataclass(frozen=True)
class Band:
    """The curve on a grid of losses, with a 95 % interval for a checkpoint."""

    loss: np.ndarray  # float64 [33], evenly spaced in its logarithm over what was measured
    rate: np.ndarray
    low: np.ndarray
    high: np.ndarray


def bootstrap_band(counts: Counts, seed: int = 0) -> Band:
    """The fit, and the percentiles of the rates that checkpoints may have."""
    grid = np.geomspace(counts.loss.min(), counts.loss.max(), _GRID)
    rate = fit_logistic(counts).rate(grid)
    low, high = np.percentile(_likely_rates(counts, grid, seed), _BOUNDS, axis=0)
    return Band(grid, rate, np.minimum(low, rate), np.maximum(high, rate))


@dataclass(frozen=True)
class Prediction:
    """Checkpoints predicted from others: from those of other runs, where there are some."""

    left_out: str  # at a time: "run" or "checkpoint"
    error: float  # mean absolute error of the success rates
    error_without_loss: float  # of saying the others' mean, whatever the loss
    within: int  # checkpoints whose successes lay in their 95 % interval
    checkpoints: int

    @property
    def verdict(self) -> str:
        """In words."""
        ours, blind = 100 * self.error, 100 * self.error_without_loss
        held = f"{self.within} of {self.checkpoints} within their intervals"
        if ours > 0.8 * blind:
            return (
                f"the loss tells next to nothing: {ours:.0f} points off with it, {blind:.0f} without; {held}"
            )
        return (
            f"a {self.left_out} left out is predicted {ours:.0f} points off, {held}; without its loss it would be "
            f"{blind:.0f}"
        )


def predict_left_out(counts: Counts, runs: Sequence[str]) -> Prediction:
    """How far off the curve is where it has not seen the answer.

    Args:
        runs: of each checkpoint. Neighbours along a run are alike, so a whole run is left out where there are several.
    """
    several = len(set(runs)) > 1
    groups = np.array(runs if several else [str(number) for number in range(len(runs))])
    errors: list[float] = []
    blind: list[float] = []
    within = 0
    for group in sorted(set(groups)):
        left, rest = counts[groups == group], counts[groups != group]
        truth = left.successes / left.episodes
        errors += np.abs(fit_logistic(rest).rate(left.loss) - truth).tolist()
        blind += np.abs(rest.successes.sum() / rest.episodes.sum() - truth).tolist()
        drawn = np.random.default_rng(1).binomial(
            left.episodes.astype(int), _likely_rates(rest, left.loss, seed=0)
        )
        low, high = np.percentile(drawn, _BOUNDS, axis=0)
        within += int(((low <= left.successes) & (left.successes <= high)).sum())
    unit = "run" if several else "checkpoint"
    return Prediction(unit, float(np.mean(errors)), float(np.mean(blind)), within, len(runs))
