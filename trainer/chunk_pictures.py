"""Pictures of the chunks that the policy would act on, drawn over the demonstrated ones."""

from __future__ import annotations

import numpy as np
import torch

from policy.networks.network import PolicyNetwork
from policy.normalize import from_unit
from policy.spec import ActionSpec, PolicySpec
from trainer.auxiliary import Auxiliary
from trainer.drawn_chunks import drawn_chunks
from trainer.loader import Samples, spread_rows
from trainer.losses import Example, to_example

_SAMPLES = 4
_DRAWS = 3  # chunks a sample, from full noise: how far they lie apart is part of what one wants to see


def picture_of_samples(
    network: PolicyNetwork, spec: PolicySpec, samples: Samples, auxiliary: Auxiliary, device: torch.device
) -> np.ndarray:
    """`picture_of_chunks` of the same few samples every time, from the first to the last."""
    example = to_example(
        samples.batch(spread_rows(len(samples), _SAMPLES)), spec, auxiliary.index, auxiliary.stats, device
    )
    return picture_of_chunks(network, spec, example)


def picture_of_chunks(network: PolicyNetwork, spec: PolicySpec, example: Example) -> np.ndarray:
    """uint8 [H, W, 3]: a row a sample and a column an action dimension; `network` is in evaluation mode."""
    draws = _DRAWS if spec.sampler is not None else 1
    drawn = np.stack([drawn_chunks(network, spec, example, seed, temperature=1.0) for seed in range(draws)])
    target = from_unit(example.actions.cpu().numpy(), spec.normalization.action)
    return draw_chunks_and_targets(drawn, target, example.valid.cpu().numpy(), spec.action)


def draw_chunks_and_targets(
    drawn: np.ndarray, target: np.ndarray, valid: np.ndarray, action: ActionSpec
) -> np.ndarray:
    """The same from arrays.

    Args:
        drawn: float32 [draws, N, H, A], physical units.
        target: float32 [N, H, A], physical units.
        valid: bool [N, H], False past the end of an episode.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows, horizon, width = target.shape
    figure = Figure(figsize=(2.6 * width, 1.7 * rows), dpi=80, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots(rows, width, squeeze=False, sharex=True)
    steps = np.arange(horizon)
    for row in range(rows):
        shown = valid[row]
        for column in range(width):
            axis = axes[row, column]
            axis.plot(steps[shown], target[row, shown, column], color="black", linewidth=1.6)
            axis.plot(steps, drawn[:, row, :, column].T, color="#3b7dd8", linewidth=0.9, alpha=0.8)
            axis.tick_params(labelsize=6)
    for axis, name, units in zip(axes[0], action.names, action.units, strict=True):
        axis.set_title(name if units == "1" else f"{name}, {units}", fontsize=8)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
