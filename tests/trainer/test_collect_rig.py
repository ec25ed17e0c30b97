"""Demonstrations on the needle rig: reproducible, clean actions stored, every stream on one clock."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from clients.lerobot_v3 import EpisodeArrays, LeRobotDataset, decode_rgb
from clients.lerobot_v3.episode import image_suffix
from clients.rig_sim.lockstep import NeedleRigSim
from clients.rig_sim.parameters import DEFAULT_FILE, load_parameters
from clients.rig_sim.scene import RigRenderer
from clients.robots.needle_rig_contract import ACTION_LIMIT, SENSOR, SENSOR_WINDOW, sensor_spec
from policy.errors import UsageError
from trainer.cache import open_cache
from trainer.collect import collect
from trainer.collection.settings import CollectArgs
from trainer.contract import cameras_of
from trainer.demonstration_needle_rig import demonstrate_needle_rig, sensor_facts
from trainer.evaluation.rig_actors import REFERENCES
from trainer.evaluation.rig_summary import rig_rows
from trainer.expert import Attempt
from trainer.rig_references import run_reference
from trainer.windows import Windows

PARAMETERS = load_parameters()
TINY = dataclasses.replace(PARAMETERS, cameras=dataclasses.replace(PARAMETERS.cameras, width=32, height=18))


@pytest.fixture(scope="module")
def stage() -> tuple[NeedleRigSim, RigRenderer]:
    sim = NeedleRigSim(TINY, ("view2",))
    return sim, sim.make_renderer()


def shown(stage: tuple[NeedleRigSim, RigRenderer], seed: int, noise: float) -> Attempt:
    return demonstrate_needle_rig(*stage, seed, noise=noise, frame_every=4, quality=95)


@pytest.fixture(scope="module")
def episode(stage: tuple[NeedleRigSim, RigRenderer]) -> EpisodeArrays:
    attempt = shown(stage, 5, 1.0)
    assert attempt.success
    assert attempt.episode is not None
    return attempt.episode


def test_the_same_seed_is_the_same_demonstration(stage, episode: EpisodeArrays) -> None:
    again = shown(stage, 5, 1.0).episode
    assert again is not None
    np.testing.assert_array_equal(again.action, episode.action)
    np.testing.assert_array_equal(again.state, episode.state)
    np.testing.assert_array_equal(again.sensors[SENSOR].values, episode.sensors[SENSOR].values)
    assert list(again.images["view2"]) == list(episode.images["view2"])


def test_pictures_states_and_the_stream_are_on_one_clock(episode: EpisodeArrays) -> None:
    stream = episode.sensors[SENSOR]
    np.testing.assert_allclose(stream.frame_times, np.arange(len(episode)) / 5, atol=1e-9)
    np.testing.assert_allclose(np.diff(stream.times), 1 / 650, atol=1e-9)
    facts = sensor_facts()[SENSOR]
    for frame in (0, 1, len(episode) - 1):
        assert stream.window(frame, facts).shape == (SENSOR_WINDOW, sensor_spec().channels)
    assert decode_rgb(episode.images["view2"][0]).shape == (18, 32, 3)
    # The stream goes on after the last frame: training windows must be cut, not taken from its end.
    assert stream.times[-1] > stream.frame_times[-1]


def test_actions_are_the_clean_ones_within_the_bounds(stage, episode: EpisodeArrays) -> None:
    assert episode.action.shape == (len(episode), 24)
    assert np.abs(episode.action).max() <= ACTION_LIMIT + 1e-6
    clean = shown(stage, 5, 0.0).episode
    assert clean is not None

    # Without pushes the pose follows the stored actions; with them it does not.
    def drift(of: EpisodeArrays) -> float:
        told = of.action.reshape(-1, 6)[:, :3].cumsum(0)[3::4]
        went = of.state[1:, :3] - of.state[0, :3]
        return float(np.abs(told[: len(went)] - went).max())

    assert drift(clean) < 0.1
    assert drift(episode) > 0.3


def test_a_demonstration_says_what_it_came_to(episode: EpisodeArrays) -> None:
    assert episode.extra["task"] == "needle-insertion"
    assert episode.extra["metrics"]["success"] is True
    assert episode.extra["gauge"] in ("23G", "25G")


def test_a_demonstration_of_aligning_is_the_beginning_of_one_of_inserting(stage) -> None:
    whole = shown(stage, 5, 1.0).episode
    short = demonstrate_needle_rig(*stage, 5, noise=1.0, frame_every=4, quality=95, until="aligned").episode
    assert whole is not None
    assert short is not None
    assert len(short) < len(whole) / 2
    np.testing.assert_array_equal(short.action, whole.action[: len(short)])
    assert short.extra["metrics"]["aligned"] is True
    assert short.extra["metrics"]["success"] is False


@pytest.mark.slow
def test_a_collection_trains(tmp_path: Path) -> None:
    small = tmp_path / "small.toml"
    small.write_text(
        DEFAULT_FILE.read_text()
        .replace("width = { value = 128", "width = { value = 32")
        .replace("height = { value = 72", "height = { value = 18")
    )
    args = CollectArgs(
        out=tmp_path / "rig",
        robot="needle-rig",
        episodes=2,
        cameras=("view2",),
        rig_parameters=small,
        workers=1,
    )
    collect(args)
    dataset = LeRobotDataset(tmp_path / "rig")
    assert dataset.num_episodes == 2
    assert dataset.facts.robot_type == "needle-rig"
    assert set(dataset.sensors) == {SENSOR}
    cache = open_cache(dataset, cameras_of(dataset.facts))
    windows = Windows(cache, np.arange(2), 16)
    window, mask = windows.batch(np.array([0, len(windows) - 1])).sensors
    assert window.shape == (2, SENSOR_WINDOW, sensor_spec().channels)
    assert mask.all()
    assert cache.task_names == ("needle-insertion",) * 2
    collect(args)  # already complete


def test_quality_0_stores_the_pictures_without_loss(stage) -> None:
    sim, renderer = stage
    attempt = demonstrate_needle_rig(sim, renderer, 5, noise=0.0, frame_every=4, quality=0, until="aligned")
    assert attempt.episode is not None
    stored = attempt.episode.images["view2"][-1]
    assert image_suffix(stored) == ".png"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"takeover": Path("policy")}, "--takeover is for MetaWorld"),
        ({"tasks": ("reach",)}, "--tasks is for MetaWorld"),
        ({"size": 64}, "--size is for MetaWorld"),
        ({"reopen": False}, "--no-reopen is for MetaWorld"),
        ({"episodes": 0}, "--episodes must be 1 or more, got 0"),
        ({"episodes": -1}, "--episodes must be 1 or more, got -1"),
    ],
)
def test_what_the_rig_cannot_do_is_refused_before_anything_is_written(tmp_path: Path, given, told) -> None:
    with pytest.raises(UsageError, match=told):
        collect(CollectArgs(out=tmp_path / "rig", robot="needle-rig", **given))
    assert not (tmp_path / "rig").exists()


def test_flags_of_the_other_robot_are_told(tmp_path: Path) -> None:
    args = CollectArgs(out=tmp_path / "rig", robot="needle-rig", cameras=("corner4",))
    with pytest.raises(UsageError, match="no view 'corner4'; it has view1"):
        collect(args)
    args = CollectArgs(out=tmp_path / "rig", tasks=("reach",), until="aligned")
    with pytest.raises(UsageError, match="--until is for the needle rig"):
        collect(args)
    args = CollectArgs(out=tmp_path / "rig", tasks=("reach",), rig_parameters=Path("other.toml"))
    with pytest.raises(UsageError, match="--rig-parameters is for --robot needle-rig"):
        collect(args)
    assert not (tmp_path / "rig").exists()


def test_doing_nothing_and_doing_anything_fail_where_the_expert_succeeds() -> None:
    sim = NeedleRigSim(PARAMETERS)
    rows = rig_rows(run_reference(sim, name, 1000) for name in REFERENCES)
    assert {row.actor: row.successes for row in rows} == {
        "expert": 1, "expert, pushed": 1, "zero": 0, "random": 0,
    }  # fmt: skip
