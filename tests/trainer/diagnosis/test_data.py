"""Faults of a recording are found: pairing, order, constant actions, leaks, values and sensors."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests.trainer.diagnosis.planted import elsewhere, one_constant_action, shuffled, sorted_as_text
from tests.trainer.diagnosis.told import diagnosed
from tests.trainer.dots import write_dots
from trainer import training_data
from trainer.diagnosis import subject as subject_module
from trainer.diagnosis.action_statistics import statistics_faults
from trainer.diagnosis.subject import SubjectArgs

FAULTS = [
    (elsewhere, "shuffled-pairs"),
    (shuffled, "shuffled-pairs"),
    (shuffled, "frames-out-of-order"),
    (sorted_as_text, "frames-sorted-as-text"),
    (one_constant_action, "constant-action"),
]


@pytest.mark.parametrize(("change", "code"), FAULTS)
def test_a_fault_of_the_recording_is_found(tmp_path, change, code):
    assert code in diagnosed("data", write_dots(tmp_path / "data", change=change)).codes


@pytest.mark.parametrize(("change", "code"), FAULTS)
def test_so_it_is_with_a_sensor_and_in_millimetres(tmp_path, change, code):
    dataset = write_dots(tmp_path / "rig", scale=1000.0, sensor=True, change=change)
    told = diagnosed("data", dataset)
    assert code in told.codes
    assert "tip [N]" in told.text


def test_of_few_episodes_only_what_they_can_show_is_said(tmp_path):
    """Six may be too few to learn from for others; that images lie in another order shows within an episode."""
    told = diagnosed("data", write_dots(tmp_path / "few", episodes=6, change=elsewhere))
    assert "shuffled-pairs" not in told.codes
    assert "few: states, same episodes" in told.text
    assert "other episodes" not in told.text
    told = diagnosed("data", write_dots(tmp_path / "order", episodes=6, change=shuffled))
    assert "in the same episodes" in told.of("shuffled-pairs")


def with_stream(change):
    """Episodes whose sensor's stream is another."""

    def changed(episodes):
        return [
            dataclasses.replace(one, sensors={name: change(stream) for name, stream in one.sensors.items()})
            for one in episodes
        ]

    return changed


def test_a_sensor_that_never_varies_is_found(tmp_path):
    unplugged = with_stream(lambda stream: dataclasses.replace(stream, values=np.zeros_like(stream.values)))
    told = diagnosed("data", write_dots(tmp_path / "rig", sensor=True, change=unplugged))
    assert told.codes == ("constant-sensor",)


def test_a_sensor_that_no_session_was_recorded_with_is_found(tmp_path):
    absent = with_stream(
        lambda stream: dataclasses.replace(stream, times=stream.times[:0], values=stream.values[:0])
    )
    told = diagnosed("data", write_dots(tmp_path / "rig", sensor=True, change=absent))
    assert told.codes == ("empty-sensor",)
    assert "no samples" in told.text


def test_validation_windows_of_episodes_that_are_trained_on_are_found(dots, monkeypatch):
    def by_windows(episodes: int, share: float, seed: int):
        return np.arange(episodes), np.arange(0, episodes, 3)

    monkeypatch.setattr(training_data, "split_episodes", by_windows)
    told = diagnosed("data", dots)
    assert told.codes == ("leaked-validation",)
    assert "(100 %)" in told.of("leaked-validation")


def test_a_copy_of_an_episode_in_another_dataset_is_a_leak(dots, tmp_path):
    copies = write_dots(tmp_path / "copies", change=lambda episodes: episodes[3:])
    assert "leaked-validation" in diagnosed("data", dots, "--dataset-dir", str(copies)).codes


def test_values_that_are_not_finite_are_found(dots):
    """Our recorder refuses them; others do not."""
    subject = subject_module.open_subject(SubjectArgs(dots, device="cpu"))
    state = subject.data.caches[0].state.copy()
    state[7, 1] = np.nan
    caches = (dataclasses.replace(subject.data.caches[0], state=state),)
    subject = dataclasses.replace(subject, data=dataclasses.replace(subject.data, caches=caches))
    assert [fault.code for fault in statistics_faults(subject)] == ["not-finite"]
