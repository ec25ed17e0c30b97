"""An optimiser step: learning rate, clipping, the averaged weights; what is not finite is skipped and counted."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from policy.errors import UsageError
from policy.networks.network import PolicyNetwork
from trainer.ema import EMA
from trainer.run_state import Progress
from trainer.shards import whole

# This many unusable losses or gradients in a row are no accident.
_MAX_CONSECUTIVE_NAN = 20


class OptimizerStep:
    """Turns the gradients that a network holds into its next weights.

    Args:
        progress: of the run; steps and what was skipped are counted there.
        rate: learning rate of a step, counted from 0.
        max_grad_norm: the gradients' norm is clipped to it.
    """

    def __init__(
        self, network: PolicyNetwork, ema: EMA[PolicyNetwork], optimizer: torch.optim.Optimizer, progress: Progress,
        rate: Callable[[int], float], max_grad_norm: float,
    ) -> None:  # fmt: skip
        self._network, self._ema, self._optimizer = network, ema, optimizer
        self._progress, self._rate, self._max_grad_norm = progress, rate, max_grad_norm
        self._spoilt = False

    def finite(self, value: float) -> bool:
        """False for a loss or gradient to skip.

        Raises:
            UsageError: nothing else came since the last step taken.
        """
        progress = self._progress
        if math.isfinite(value):
            return True
        progress.skipped += 1
        progress.consecutive_nan += 1
        if progress.consecutive_nan >= _MAX_CONSECUTIVE_NAN:
            raise UsageError(
                f"the loss was not finite {_MAX_CONSECUTIVE_NAN} times in a row at step {progress.steps}: the weights "
                f"have diverged (learning rate {self._rate(progress.steps):.1e}; try a tenth) or the data hold "
                "extreme values"
            )
        return False

    def spoil(self) -> None:
        """Drop all gradients of the step under way: several processes cannot tell a broken batch's from the others'."""
        self._spoilt = True

    def take(self, tell: Callable[[], None]) -> None:
        """Step, unless every batch was skipped.

        Args:
            tell: called before the gradients are clipped.
        """
        progress = self._progress
        for group in self._optimizer.param_groups:
            group["lr"] = self._rate(progress.steps)
        progress.steps += 1
        if self._spoilt:
            self._optimizer.zero_grad(set_to_none=True)
            self._spoilt = False
        if all(p.grad is None for p in self._network.parameters()):
            return
        tell()
        norm = whole(torch.nn.utils.clip_grad_norm_(self._network.parameters(), self._max_grad_norm))
        if self.finite(float(norm)):
            self._optimizer.step()
            self._ema.update(self._network, progress.steps)
            progress.sums["grad"] += float(norm)
            progress.consecutive_nan = 0
        self._optimizer.zero_grad(set_to_none=True)
