"""Inputs that never reach the head, blocks without gradient, images never looked at and actions never learnt."""

from __future__ import annotations

import pytest
import torch

from policy.networks.encoder import ObservationEncoder
from policy.networks.sensor import SensorEncoder
from tests.trainer.diagnosis.planted import noise
from tests.trainer.diagnosis.told import diagnosed
from tests.trainer.dots import write_dots


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
