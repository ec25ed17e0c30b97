"""Inputs that never reach the head, blocks without gradient, images never looked at and actions never learnt."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from policy.networks.encoder import ObservationEncoder
from policy.networks.sensor import SensorEncoder
from tests.trainer.diagnosis.planted import noise
from tests.trainer.diagnosis.told import diagnosed
from tests.trainer.dots import write_dots
from trainer.diagnosis.mse import acted
from trainer.diagnosis.probe import batches, probe
from trainer.diagnosis.subject import SubjectArgs, open_subject
from trainer.drawn_chunks import drawn_chunks


def test_a_network_that_never_gets_the_image_is_found(dots, monkeypatch):
    right = ObservationEncoder.see
    monkeypatch.setattr(
        ObservationEncoder, "see", lambda self, images, tokens: right(self, torch.zeros_like(images), tokens)
    )
    assert "images-cut-off" in diagnosed("head", dots).codes


def test_a_sensor_of_which_only_its_presence_is_read_is_found(tmp_path, monkeypatch):
    dataset = write_dots(tmp_path / "rig", sensor=True)
    assert diagnosed("head", dataset).codes == ()
    right = SensorEncoder.forward
    monkeypatch.setattr(
        SensorEncoder, "forward", lambda self, window, mask: right(self, torch.zeros_like(window), mask)
    )
    told = diagnosed("head", dataset)
    assert told.codes == ("sensor-cut-off",)
    assert "sensor tip" in told.text


def test_a_block_that_no_gradient_reaches_is_found(dots, monkeypatch):
    right = ObservationEncoder.see
    monkeypatch.setattr(ObservationEncoder, "see", lambda self, *inputs: right(self, *inputs).detach())
    assert "encoder.vision" in diagnosed("head", dots).of("dead-block")


@pytest.mark.slow
def test_an_image_that_is_never_attended_to_is_found(tmp_path, train):
    """The images show noise: on episodes that it was not trained on, they are of no use to the policy."""
    dataset = write_dots(tmp_path / "noise", change=noise)
    told = diagnosed("head", train(dataset, tmp_path / "run", epochs=2))
    assert "--state-dropout" in told.of("image-never-attended-to")


def test_an_action_of_which_nothing_is_explained_is_found(altered):
    def mirrored(network):
        """The first action's output with its sign turned."""
        network.trunk.out.weight[0::2].mul_(-1)
        network.trunk.out.bias[0::2].mul_(-1)

    told = diagnosed("mse", altered(weights=mirrored))
    assert told.codes == ("worse-than-the-mean",)
    assert "dx (" in told.of("worse-than-the-mean")
    assert "dy (" not in told.of("worse-than-the-mean")


def test_errors_are_of_the_actions_that_the_loss_counts(tmp_path):
    """What a policy did before the expert took over is not of them: it is given as a prefix, as in training."""

    def taken_over(episodes):
        return [
            replace(
                e, executed_action=np.full_like(e.action, 0.01), extra={**e.extra, "demonstrated_from": 5}
            )
            for e in episodes
        ]

    dataset = write_dots(tmp_path / "takeover", change=taken_over, executed_actions=True)
    subject = open_subject(SubjectArgs(dataset, samples=96, device="cpu"))
    drawn, true = acted(subject)
    assert len(drawn) == len(true) == probe(subject, subject.network).counted.sum() / 4  # draws
    leads = []
    for example, _ in batches(subject, subject.data.train, draws=1):
        chunks = drawn_chunks(subject.network, subject.spec, example, seed=0)
        for chunk, lead in zip(chunks, example.lead.tolist(), strict=True):
            np.testing.assert_allclose(chunk[:lead], 0.01, atol=1e-6)
            leads.append(lead)
    assert max(leads) > 0
