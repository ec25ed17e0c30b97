"""Success against loss: a logistic curve that never rises with it, bootstrap intervals, and how well it predicts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_RESAMPLES = 400
_GRID = 33
# Prior on both coefficients (of the standardised log loss): keeps the fit finite where every episode went the same way.
_RIDGE = 1e-2


@dataclass(frozen=True)
class Fit:
    """P(success) = sigmoid(level - slope * z), z the standardised logarithm of the loss."""

    level: float
    slope: float  # 0 or more
    center: float  # of log loss
    scale: float

    def rate(self, loss: np.ndarray) -> np.ndarray:
        """Success rates at these losses."""
        z = (np.log(loss) - self.center) / self.scale
        return 1 / (1 + np.exp(-(self.level - self.slope * z)))


def fit_logistic(loss: np.ndarray, successes: np.ndarray, episodes: np.ndarray) -> Fit:
    """Most likely curve of binomial counts, float64 [N] each; losses above 0."""
    logs = np.log(loss)
    center, scale = float(logs.mean()), float(logs.std()) or 1.0
    z = (logs - center) / scale
    coefficients = _newton(np.stack([np.ones_like(z), -z], 1), successes, episodes)
    if coefficients[1] < 0:  # the likelihood is concave: its best point under slope >= 0 then has slope 0
        coefficients = np.array([_newton(np.ones((len(z), 1)), successes, episodes)[0], 0.0])
    return Fit(float(coefficients[0]), float(coefficients[1]), center, scale)


def _newton(design: np.ndarray, successes: np.ndarray, episodes: np.ndarray) -> np.ndarray:
    coefficients = np.zeros(design.shape[1])
    for _ in range(50):
        rate = 1 / (1 + np.exp(-design @ coefficients))
        gradient = design.T @ (successes - episodes * rate) - _RIDGE * coefficients
        curvature = (design * (episodes * rate * (1 - rate))[:, None]).T @ design
        step = np.linalg.solve(curvature + _RIDGE * np.eye(len(coefficients)), gradient)
        coefficients = coefficients + step * min(1.0, 4.0 / max(1e-12, float(np.abs(step).max())))
        if np.abs(step).max() < 1e-9:
            break
    return coefficients


@dataclass(frozen=True)
class Band:
    """The curve on a grid of losses, with a 95 % interval."""

    loss: np.ndarray  # float64 [33], evenly spaced in its logarithm over what was measured
    rate: np.ndarray
    low: np.ndarray
    high: np.ndarray


def bootstrap_band(loss: np.ndarray, successes: np.ndarray, episodes: np.ndarray, seed: int = 0) -> Band:
    """The fit, and the percentiles of fits to resampled checkpoints, whose episodes are drawn anew as well."""
    rng = np.random.default_rng(seed)
    grid = np.geomspace(loss.min(), loss.max(), _GRID)
    smoothed = (successes + 0.5) / (episodes + 1)  # 20 of 20 does not mean that no episode ever fails
    fits = []
    for _ in range(_RESAMPLES):
        chosen = rng.integers(len(loss), size=len(loss))
        drawn = rng.binomial(episodes[chosen].astype(int), smoothed[chosen]).astype(float)
        fits.append(fit_logistic(loss[chosen], drawn, episodes[chosen]).rate(grid))
    low, high = np.percentile(fits, [2.5, 97.5], axis=0)
    rate = fit_logistic(loss, successes, episodes).rate(grid)
    return Band(grid, rate, np.minimum(low, rate), np.maximum(high, rate))


@dataclass(frozen=True)
class Prediction:
    """Each checkpoint predicted from the others."""

    error: float  # mean absolute error of its success rate
    error_without_loss: float  # of saying the others' mean, whatever the loss

    @property
    def verdict(self) -> str:
        """In words."""
        ours, blind = 100 * self.error, 100 * self.error_without_loss
        if ours > 0.8 * blind:
            return f"the loss tells next to nothing: {ours:.0f} points off with it, {blind:.0f} without"
        return f"a checkpoint left out is predicted {ours:.0f} points off; without its loss it would be {blind:.0f}"


def leave_one_out(loss: np.ndarray, successes: np.ndarray, episodes: np.ndarray) -> Prediction:
    """How far off the curve is where it has not seen the answer."""
    errors, blind = [], []
    for left in range(len(loss)):
        rest = np.arange(len(loss)) != left
        truth = successes[left] / episodes[left]
        fit = fit_logistic(loss[rest], successes[rest], episodes[rest])
        errors.append(abs(float(fit.rate(loss[left : left + 1])[0]) - truth))
        blind.append(abs(successes[rest].sum() / episodes[rest].sum() - truth))
    return Prediction(float(np.mean(errors)), float(np.mean(blind)))
