"""Loud initialisation, a learning rate that is too high, and logs that show an explosion are found."""

from __future__ import annotations

import json
import math
import shutil

import pytest

from policy.networks import network as network_module
from tests.trainer.diagnosis.told import diagnosed
from trainer.diagnosis.rate_trial import Trial, judge


def test_torchs_default_initialisation_is_found(dots, monkeypatch):
    monkeypatch.setattr(network_module, "initialize", lambda module: None)
    told = diagnosed("loss-explosion", dots)
    assert "zero_init" in told.of("loud-initialisation")


@pytest.mark.slow
def test_a_learning_rate_of_1e_3_that_a_wide_network_does_not_survive_is_found(
    dots, settings_of_a_dataset, monkeypatch
):
    """At 1,536 channels and one sample a batch 1e-3 throws the loss about, on average half above where it began."""
    settings_of_a_dataset(hidden_dim=1536, horizon=16, draws=1)
    monkeypatch.setattr("trainer.diagnosis.loss_explosion._LADDER", (0.1, 1.0))
    told = diagnosed("loss-explosion", dots, "--lr", "1e-3", "--batch-size", "1")
    assert told.codes == ("learning-rate",)
    assert "--lr 1.0e-04" in told.of("learning-rate")


@pytest.mark.slow
def test_a_learning_rate_of_1e_4_is_sound_in_the_same_network(dots, settings_of_a_dataset, monkeypatch):
    settings_of_a_dataset(hidden_dim=1536, horizon=16, draws=1)
    monkeypatch.setattr("trainer.diagnosis.loss_explosion._LADDER", (1.0,))
    assert diagnosed("loss-explosion", dots, "--lr", "1e-4", "--batch-size", "1").codes == ()


def trial(rate: float, after: float, highest: float = 1.0) -> Trial:
    return Trial(rate, before=1.0, highest=highest, after=after, largest_gradient=1.0)


def test_a_rate_is_judged_by_where_it_began_by_gentler_ones_and_by_its_worst_batch():
    sound = [trial(1e-4, 0.9), trial(3e-4, 0.6), trial(1e-3, 0.5)]
    assert not any(judge(sound).values())
    for wrong in (trial(1e-2, 1.3), trial(1e-2, 0.7), trial(1e-2, 0.5, highest=3.0), trial(1e-2, math.inf)):
        assert [rate for rate, unstable in judge([*sound, wrong]).items() if unstable] == [1e-2]


def test_a_log_that_rises_is_found(sound_run, tmp_path):
    shutil.copytree(sound_run(), tmp_path / "run")
    log = tmp_path / "run" / "epochs.jsonl"
    last = json.loads(log.read_text().splitlines()[-1])
    log.write_text(log.read_text() + json.dumps({**last, "epoch": last["epoch"] + 1, "loss": 9.0}) + "\n")
    assert "best checkpoint" in diagnosed("loss-explosion", tmp_path / "run").of("loss-rose")
