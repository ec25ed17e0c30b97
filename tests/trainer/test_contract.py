"""From data to contract: statistics of the training episodes alone, names and rates of the dataset."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from clients.lerobot_v3 import DatasetFacts, LeRobotDataset
from policy.errors import UsageError
from trainer.contract import cameras_of, check_alike, make_spec


def facts_of(cache_root):
    return LeRobotDataset(cache_root).facts


def test_statistics_come_from_the_training_episodes_alone(make_cache, make_args, tmp_path):
    cache = make_cache([4, 4, 4])
    spec = make_spec(make_args(), facts_of(tmp_path / "data"), [cache], [np.array([0, 1])])
    assert spec.normalization.state.maximum[0] == 7  # frames 0 ... 7; the third episode has 8 ... 11
    assert spec.normalization.action.maximum[0] == 15
    assert spec.action.high[0] == 15
    assert spec.normalization.action.minimum[0] == 0


def test_instructions_are_those_of_the_training_episodes(make_cache, make_args, tmp_path):
    cache = make_cache([4, 4, 4])
    spec = make_spec(make_args(), facts_of(tmp_path / "data"), [cache], [np.array([0, 2])])
    assert spec.instruction.by_task == {"task0": ("do task 0",)}
    assert not spec.instruction.required


def test_names_and_rates_are_those_of_the_data(make_cache, make_args, tmp_path):
    cache = make_cache([4, 4], cameras=("front", "side"), per_frame=3)
    spec = make_spec(make_args(horizon=12), facts_of(tmp_path / "data"), [cache], [np.array([0, 1])])
    assert [camera.name for camera in spec.cameras] == ["front", "side"]
    assert (spec.cameras[0].height, spec.cameras[0].width) == (8, 8)
    assert spec.state.names == ("x", "y")
    assert spec.action.names == ("dx", "dy")
    assert spec.action.rate_hz == 60.0  # of control, not of frames
    assert spec.horizon == 12
    assert spec.instruction.required
    assert spec.instruction.by_task == {"task0": ("do task 0",), "task1": ("do task 1",)}
    assert spec.name == "run"


def test_a_run_in_the_working_directory_is_named_after_it(make_cache, make_args, tmp_path, monkeypatch):
    cache, facts = make_cache([4, 4]), facts_of(tmp_path / "data")
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    assert make_spec(make_args(out=Path(".")), facts, [cache], [np.array([0])]).name == "mine"


def test_a_regression_head_has_no_sampler_and_a_diffusion_head_the_asked_one(make_cache, make_args, tmp_path):
    cache, facts = make_cache([4, 4]), facts_of(tmp_path / "data")
    assert make_spec(make_args(head="regression"), facts, [cache], [np.array([0])]).sampler is None
    args = make_args(diffusion_timesteps=20, prediction_type="epsilon", ddim_steps=50, temperature=0.5)
    sampler = make_spec(args, facts, [cache], [np.array([0])]).sampler
    assert (sampler.train_steps, sampler.prediction_type, sampler.default_steps) == (20, "epsilon", 20)
    assert sampler.temperature == 0.5


def test_a_dimension_that_never_moves_still_has_bounds(make_cache, make_args, tmp_path):
    cache = make_cache([4, 4], scale=0.0)
    spec = make_spec(make_args(), facts_of(tmp_path / "data"), [cache], [np.array([0, 1])])
    assert all(low < high for low, high in zip(spec.action.low, spec.action.high, strict=True))


@pytest.mark.parametrize(
    ("other", "field"),
    [({"cameras": ("side",)}, "cameras"), ({"size": 16}, "cameras"), ({"per_frame": 3}, "actions_per_frame")],
)
def test_datasets_that_differ_are_not_trained_on_together(make_dataset, tmp_path, other, field):
    first = LeRobotDataset(make_dataset(tmp_path / "one", [3]))
    second = LeRobotDataset(make_dataset(tmp_path / "two", [3], **other))
    check_alike([first, first])
    with pytest.raises(UsageError, match=f"two differs from .*one in {field}"):
        check_alike([first, second])


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"tinyvla": {"action_kind": "absolute"}}, "action_kind"),
        ({"tinyvla": {"state_units": ["mm", "mm"]}}, "state_units"),
        ({"tinyvla": {"action_units": ["mm", "mm"]}}, "action_units"),
        ({"features": {"observation.environment_state": None}}, "environment_state_names"),
    ],
)
def test_datasets_whose_numbers_mean_something_else_are_not_trained_on_together(
    make_dataset, tmp_path, change, field
):
    roots = [make_dataset(tmp_path / name, [3]) for name in ("one", "two")]
    path = roots[1] / "meta" / "info.json"
    info = json.loads(path.read_text())
    for part, values in change.items():
        info[part] = {key: value for key, value in {**info[part], **values}.items() if value is not None}
    path.write_text(json.dumps(info))
    with pytest.raises(UsageError, match=f"two differs from .*one in {field}"):
        check_alike([LeRobotDataset(root) for root in roots])


def test_a_robot_that_only_shares_the_name_of_one_that_is_known_makes_unitless_deltas(
    make_cache, make_args, tmp_path
):
    cache = make_cache([4, 4])
    facts = dataclasses.replace(facts_of(tmp_path / "data"), robot_type="metaworld")
    spec = make_spec(make_args(), facts, [cache], [np.array([0])])
    assert (spec.state.units, spec.action.units, spec.action.kind) == (("1", "1"), ("1", "1"), "delta")


def test_cameras_of_different_sizes_are_one_line():
    facts = DatasetFacts(
        cameras={"left": (32, 32), "right": (64, 64)},
        state_names=("x",),
        action_names=("a",),
        fps=10,
        control_rate_hz=10,
    )
    with pytest.raises(UsageError, match=r"left 32 x 32, right 64 x 64"):
        cameras_of(facts)
