"""What optimiser steps tell between two entries of the log: loss, also by noise level, speed, gradients by block."""

from __future__ import annotations

import itertools
import math
import time

import torch
from torch import Tensor, nn

from trainer.diagnosis.blocks import gradient_norms
from trainer.losses import Losses

_LEVELS = 10  # groups of timesteps


def loss_by_timestep(timestep: Tensor, by_draw: Tensor, train_steps: int) -> dict[str, float]:
    """Mean loss of neighbouring timesteps, keyed `00-09`; groups of which nothing was drawn are left out.

    Args:
        timestep: int64 [N].
        by_draw: float32 [N], NaN where a draw has nothing that counts.
    """
    edges = torch.linspace(0, train_steps, min(_LEVELS, train_steps) + 1).round().long().tolist()
    width = len(str(train_steps - 1))
    found = {}
    for first, end in itertools.pairwise(edges):
        chosen = by_draw[(timestep >= first) & (timestep < end) & ~by_draw.isnan()]
        if len(chosen):
            found[f"{first:0{width}}-{end - 1:0{width}}"] = float(chosen.mean())
    return found


class StepLog:
    """Collects batches until it is asked.

    Args:
        train_steps: of the noise schedule; None for regression, whose loss has no timesteps.
        processes: that train; the others have as many samples as this one, whose losses are told.
    """

    def __init__(self, train_steps: int | None, processes: int = 1) -> None:
        self._train_steps, self._processes = train_steps, processes
        self._clear()

    def _clear(self) -> None:
        self._losses: list[float] = []
        self._draws: list[tuple[Tensor, Tensor]] = []
        self._samples = 0
        self._since = self._paused = time.perf_counter()

    def pause(self) -> None:
        """The time from now until `go_on` is not spent on steps."""
        self._paused = time.perf_counter()

    def go_on(self) -> None:
        """Steps are taken again."""
        self._since += time.perf_counter() - self._paused

    def add(self, losses: Losses, timestep: Tensor, samples: int) -> None:
        """Take in a batch of `samples`."""
        self._losses.append(float(losses.action.detach()))
        self._draws.append((timestep, losses.by_draw))
        self._samples += samples

    def entry(self, network: nn.Module) -> dict[str, float]:
        """Figures since the last entry, and the norms of the gradients that the network holds now, block by block."""
        seconds = time.perf_counter() - self._since
        found = {"step/samples_per_second": self._processes * self._samples / seconds}
        if self._losses:
            found["step/loss"] = sum(self._losses) / len(self._losses)
            if self._train_steps is not None:
                timestep, by_draw = (torch.cat(part).cpu() for part in zip(*self._draws, strict=True))
                levels = loss_by_timestep(timestep, by_draw.float(), self._train_steps)
                found |= {f"loss_by_timestep/{name}": value for name, value in levels.items()}
        norms = gradient_norms(network)
        found["step/gradient_norm"] = math.hypot(*norms.values())
        found |= {f"gradient_norm/{name}": norm for name, norm in norms.items()}
        self._clear()
        return found
