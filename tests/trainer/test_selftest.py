"""`tinyvla selftest` passes on what works, and says what is broken when something is."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from rich.console import Console

from policy.networks.config import NetworkConfig
from policy.networks.sensor import SensorEncoder
from trainer import selfchecks
from trainer.selfchecks import CHECKS, CheckFailed, Setup
from trainer.selftest import run_checks

SMALL = Setup(
    NetworkConfig(
        vision_widths=(8, 8), blocks_per_stage=1, keypoints=4, text_dim=8, hidden_dim=24, layers=1, heads=2,
        context_tokens=2, fusion_dim=16,
    ),
    size=32,
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", CHECKS)
def test_every_check_passes_on_what_works(name):
    assert CHECKS[name](SMALL)


def test_each_check_is_told_on_a_line_and_failures_are_counted():
    def wrong(setup):
        raise CheckFailed("42 instead of 41")

    def broken(setup):
        raise OSError("no such\nlibrary")

    text = io.StringIO()
    checks = {"right": lambda setup: "as it should", "wrong": wrong, "broken": broken}
    assert run_checks(SMALL, Console(file=text, width=200), checks) == 2
    lines = [line.split(maxsplit=4) for line in text.getvalue().splitlines()]
    assert [line[:2] for line in lines] == [["passed", "right"], ["FAILED", "wrong"], ["FAILED", "broken"]]
    assert [line[4] for line in lines] == ["as it should", "42 instead of 41", "OSError: no such"]


def test_another_noise_schedule_is_found(monkeypatch):
    monkeypatch.setattr(selfchecks, "alphas_cumprod", lambda steps: np.linspace(0.99, 0.01, steps))
    with pytest.raises(CheckFailed, match="differs from diffusers"):
        CHECKS["noise schedule"](SMALL)


def test_torchs_default_initialisation_is_found(monkeypatch):
    right = Setup.network

    def default(self, spec, *, woken):
        network = right(self, spec, woken=woken)
        for module in network.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
        return network

    monkeypatch.setattr(Setup, "network", default)
    with pytest.raises(CheckFailed, match="a fresh loss of"):
        CHECKS["action heads"](SMALL)


@pytest.mark.parametrize("blind", ["images", "state"])
def test_an_input_that_reaches_nothing_is_found(monkeypatch, blind):
    right = Setup.network

    def cut(self, spec, *, woken):
        network = right(self, spec, woken=woken)
        see, fuse = network.encoder.see, network.encoder.fuse
        if blind == "images":
            network.encoder.see = lambda images, tokens: see(torch.zeros_like(images), tokens)
        else:
            network.encoder.fuse = lambda seen, state, *rest: fuse(seen, torch.zeros_like(state), *rest)
        return network

    monkeypatch.setattr(Setup, "network", cut)
    with pytest.raises(CheckFailed, match=f"the {blind} does not reach the actions"):
        CHECKS["full model"](SMALL)


def test_a_sensor_encoder_that_no_gradient_reaches_is_found(monkeypatch):
    right = SensorEncoder.forward
    monkeypatch.setattr(SensorEncoder, "forward", lambda self, *inputs: right(self, *inputs).detach())
    with pytest.raises(CheckFailed, match=r"no gradient reaches encoder\.sensors"):
        CHECKS["full model"](SMALL)
