"""The averaged weights: a warm-up, then the asked decay, and never a gradient."""

from __future__ import annotations

import pytest
import torch

from trainer.ema import EMA


def test_the_average_follows_its_formula():
    module = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(module.weight)
    ema = EMA(module, 0.95)
    expected = 0.0
    for step in range(1, 400):
        value = float(step % 7)
        torch.nn.init.constant_(module.weight, value)
        ema.update(module, step)
        decay = min(0.95, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
        assert float(ema.module.weight) == pytest.approx(expected, abs=1e-4)


def test_the_initialisation_is_soon_forgotten():
    """Without the warm-up a decay of 0.999 would carry a third of it through a thousand steps."""
    module = torch.nn.Linear(4, 4)
    ema = EMA(module, 0.999)
    torch.nn.init.zeros_(ema.module.weight)  # an initialisation far from what follows
    torch.nn.init.ones_(module.weight)
    for step in range(1, 101):
        ema.update(module, step)
    assert float(ema.module.weight.min()) > 0.95


def test_the_average_is_a_copy_in_evaluation_mode_without_gradients():
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout())
    ema = EMA(module.train(), 0.9)
    assert not ema.module.training
    assert not any(parameter.requires_grad for parameter in ema.module.parameters())
    assert module[0].weight.requires_grad
    torch.nn.init.ones_(module[0].weight)
    assert not torch.equal(ema.module[0].weight, module[0].weight)
