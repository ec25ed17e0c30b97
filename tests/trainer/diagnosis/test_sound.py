"""What is sound is called sound, as a run, as a checkpoint and as a dataset; wrong calls are one line."""

from __future__ import annotations

import json

import numpy as np
import pytest

import tinyvla
from tests.trainer.diagnosis.told import diagnosed
from tests.trainer.dots import write_dots

SUBCOMMANDS = ["loss-explosion", "loss-values", "head", "mse", "schedule", "data", "memory"]


@pytest.mark.slow
@pytest.mark.parametrize("what", SUBCOMMANDS)
def test_a_sound_run_has_no_fault(sound_run, what):
    told = diagnosed(what, sound_run())
    assert told.codes == ()
    assert "diffusion policy after" in told.text


@pytest.mark.parametrize("what", SUBCOMMANDS)
def test_a_sound_dataset_has_no_fault(dots, what):
    told = diagnosed(what, dots)
    assert told.codes == ()
    assert "a dataset, with a fresh network" in told.text


@pytest.mark.parametrize("what", SUBCOMMANDS)
def test_a_sound_dataset_with_a_sensor_in_millimetres_has_no_fault(tmp_path, what):
    assert diagnosed(what, write_dots(tmp_path / "rig", scale=1000.0, sensor=True)).codes == ()


def test_a_checkpoint_can_be_given_as_well_as_its_run(sound_run):
    assert diagnosed("mse", sound_run() / "last").codes == ()


def test_a_regression_run_can_be_diagnosed_too(dots, tmp_path, train):
    directory = train(dots, tmp_path / "run", head="regression", epochs=1)
    for what in ("loss-values", "head", "mse", "schedule"):
        assert "worse-than-nothing" not in diagnosed(what, directory).codes


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["data", "/nowhere"], "/nowhere is no run, no checkpoint and no dataset"),
        (["colour", "/nowhere"], "no subcommand 'colour'; there are: loss-explosion"),
    ],
)
def test_a_wrong_call_is_one_line(flags, message, capsys):
    assert tinyvla.main(["diagnose", *flags]) == 2
    line = capsys.readouterr().err.strip()
    assert message in line
    assert "\n" not in line


def test_the_subcommands_are_listed(capsys):
    assert tinyvla.main(["diagnose", "--help"]) == 0
    listed = capsys.readouterr().out
    assert all(what in listed for what in SUBCOMMANDS)


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"cameras": ("a", "b"), "size": 32}, "its cameras are ['front'], the dataset's are ['a', 'b']"),
        ({"size": 16}, "its cameras are ['front 32x32'], the dataset's are ['front 16x16']"),
        (
            {"size": 32, "streams": [np.arange(20) / 100] * 6},
            "its sensors are [], the dataset's are ['tip [2 x N]']",
        ),
    ],
)
def test_data_of_another_policy_are_refused_in_one_line(
    sound_run, make_dataset, tmp_path, capsys, other, told
):
    data = make_dataset(tmp_path / "other", [20] * 6, **other)
    sound_run()
    capsys.readouterr()
    assert tinyvla.main(["diagnose", "mse", str(sound_run()), "--dataset-dir", str(data)]) == 2
    assert told in capsys.readouterr().err


def test_data_that_have_moved_are_asked_for(altered, capsys):
    place = altered()
    path = place / "state.json"
    document = json.loads(path.read_text())
    document["arguments"]["dataset_dir"] = ["/gone"]
    path.write_text(json.dumps(document))
    (place / "SHA256SUMS").unlink()
    assert tinyvla.main(["diagnose", "data", str(place)]) == 2
    assert "are not at /gone; say where with --dataset-dir" in capsys.readouterr().err
