"""Red and blue exchanged are found by the recorder's statistics, by another dataset, by the scene and by the policy."""

from __future__ import annotations

import json

import pytest

from tests.trainer.diagnosis.planted import doubled, swapped
from tests.trainer.diagnosis.told import diagnosed
from tests.trainer.dots import write_dots


def test_colours_that_are_not_those_the_recorder_counted_are_found(tmp_path):
    dataset = write_dots(tmp_path / "data")
    path = dataset / "meta" / "stats.json"
    stats = json.loads(path.read_text())
    # As if the images had been turned after they were counted.
    stats["observation.images.front"]["mean"].reverse()
    path.write_text(json.dumps(stats))
    told = diagnosed("data", dataset)
    assert told.codes == ("swapped-colours",)
    assert "front's mean colours are those in meta/stats.json in reverse" in told.text


def test_a_dataset_whose_colours_are_anothers_in_reverse_is_found(tmp_path, dots):
    other = write_dots(tmp_path / "swapped", seed=5, change=swapped)
    assert "swapped-colours" in diagnosed("data", dots, "--dataset-dir", str(other)).codes


def test_a_metaworld_scene_that_is_blue_is_found(tmp_path):
    names = ("a", "b", "c", "d")
    dataset = write_dots(
        tmp_path / "data", change=doubled, robot_type="metaworld", state_names=names, action_names=names
    )
    assert "bluer than red" in diagnosed("data", dataset).of("swapped-colours")


@pytest.mark.slow
def test_a_policy_that_is_shown_blue_for_red_is_found(tmp_path, sound_run):
    other = write_dots(tmp_path / "swapped", seed=0, change=swapped)
    told = diagnosed("data", sound_run(), "--dataset-dir", str(other))
    assert told.codes == ("swapped-colours",)
    assert "with red and blue exchanged" in told.of("swapped-colours")
