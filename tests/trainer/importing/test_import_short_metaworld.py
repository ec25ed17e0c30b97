"""Short-MetaWorld: pictures paired with steps by number, padding taken off, pickles read as data."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest

from clients.robots.metaworld_tasks import instruction
from policy.errors import UsageError
from tests.trainer.importing.recordings import Motion, brightness_of, write_short

FLAGS = {"size": "24x24"}


@pytest.mark.parametrize("as_lists", [False, True], ids=["arrays", "lists"])
@pytest.mark.parametrize("nested", ["", "short-MetaWorld", "short-MetaWorld/short-MetaWorld"])
def test_trajectories_come_out_as_they_were_without_their_padding(tmp_path, imported, nested, as_lists):
    write_short(tmp_path / "source" / nested, {"drawer-open-v2": 2, "reach-v2": 1}, as_lists=as_lists)
    found = imported(tmp_path / "source", **FLAGS)
    dataset = found.dataset
    assert dataset.lengths == [16, 16, 16]
    assert found.dropped["step: padding"] == 3 * 4
    assert dataset.facts.robot_type == "metaworld"
    assert dataset.facts.fps == dataset.facts.control_rate_hz == 20
    for number, (task, seed) in enumerate([("drawer-open", 0), ("drawer-open", 1), ("reach", 100)]):
        episode = dataset.episode(number)
        assert (episode.task, episode.extra["metaworld_task"]) == (instruction(task), task)
        hand = Motion(seed).unwrapped(np.arange(17) / 4)[:, :4]
        np.testing.assert_allclose(episode.state, hand[:16], rtol=1e-6)
        np.testing.assert_allclose(episode.action, np.clip(np.diff(hand, axis=0) * 3, -1, 1), atol=1e-4)
        np.testing.assert_allclose(episode.environment_state[:, :14], np.tile(np.arange(14), (16, 1)))
        np.testing.assert_allclose(episode.environment_state[0, 14:], [0.1, 0.2, 0.3], rtol=1e-6)


def test_pictures_are_paired_by_number_not_by_name(tmp_path, imported):
    write_short(tmp_path / "source", {"reach-v2": 11})
    dataset = imported(tmp_path / "source", **FLAGS).dataset
    assert [dataset.extra_of(n)["trajectory"] for n in range(11)] == [f"reach-v2/{n}" for n in range(11)]
    for number in (2, 10):
        episode = dataset.episode(number)
        for coordinate in range(4):
            shown = brightness_of(episode.images["camera"], coordinate)
            assert np.corrcoef(shown, episode.state[:, coordinate])[0, 1] > 0.99


def test_what_is_not_whole_is_dropped_and_counted(tmp_path, imported):
    root = write_short(tmp_path / "source", {"reach-v2": 5}, steps=16)
    pictures = root / "img_only/reach-v2"
    (pictures / "0/7.jpg").unlink()
    whole = (pictures / "1/8.jpg").read_bytes()
    (pictures / "1/8.jpg").write_bytes(whole[: len(whole) // 2])
    (pictures / "2/16.jpg").write_bytes(whole)
    (pictures / "3").rename(pictures / "9")
    path = root / "r3m-processed/r3m_MT10_20/reach-v2.pkl"

    def spoil(told) -> None:
        told["state"] = told["state"].astype(np.float64)
        told["state"][4, 3, 1], told["state"][4, 2, 1] = np.nan, 1e300

    write_pickle(path, spoil)
    found = imported(tmp_path / "source", min_frames=4, **FLAGS)
    assert found.dropped == {
        "picture: no step in the pickle": 1,
        "picture: not a whole JPEG": 1,
        "step: no picture": 1,
        "step: not finite": 2,
        "step: stretch too short": 2,
        "trajectory: no pictures": 1,
        "trajectory: not in the pickle": 1,
    }
    assert found.dataset.lengths == [7, 8, 8, 7, 16, 12]
    assert [found.dataset.extra_of(n)["first_step"] for n in range(6)] == [0, 8, 0, 9, 0, 4]


def write_pickle(path, change) -> None:
    with open(path, "rb") as file:
        told = pickle.Unpickler(file).load()  # written by this test
    change(told)
    path.write_bytes(pickle.dumps(told))


class Trap:
    def __reduce__(self):
        return os.makedirs, ("unpickled",)


def add_trap(told) -> None:
    told["features"] = Trap()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (add_trap, "makedirs'?, which is neither an array nor a number"),
        (lambda told: told.update(features=np.array([{}, None])), "type 'O8'; only numbers are read"),
        (lambda told: told.pop("actions"), "holds no 'actions' of trajectories"),
        (lambda told: told.update(state=np.array(1.0)), "holds no 'state' of trajectories"),
        (lambda told: told.update(state=[[[10**400]]]), "'state' is not trajectories of steps of numbers"),
        (lambda told: told.update(state=[["a"]]), "'state' is not trajectories of steps of numbers"),
        (lambda told: told.update(state=told["state"][:, :, :3]), "states of 3 numbers are not MetaWorld's"),
        (lambda told: told.update(actions=told["actions"][:, :, :3]), "actions of 3"),
    ],
)
def test_a_task_whose_pickle_is_no_pickle_of_arrays_is_left_out(tmp_path, imported, monkeypatch, change, why):
    monkeypatch.chdir(tmp_path)
    root = write_short(tmp_path / "source", {"reach-v2": 1, "push-v2": 1})
    write_pickle(root / "r3m-processed/r3m_MT10_20/reach-v2.pkl", change)
    found = imported(tmp_path / "source", **FLAGS)
    assert [one["left_out"] is None for one in found.report["sessions"]] == [True, False]
    with pytest.raises(AssertionError, match=why):
        raise AssertionError(found.report["sessions"][1]["left_out"])
    assert found.dataset.num_episodes == 1
    assert not (tmp_path / "unpickled").exists()


def test_tasks_without_pictures_or_pickle_are_told(tmp_path, imported):
    root = write_short(tmp_path / "source", {"reach-v2": 1, "push-v2": 1, "sweep-v2": 1})
    (root / "r3m-processed/r3m_MT10_20/reach-v2.pkl").unlink()
    (root / "img_only/push-v2").rename(tmp_path / "elsewhere")
    (root / "r3m-processed/r3m_MT10_20/data.pkl").write_bytes(b"all tasks once more")
    found = imported(tmp_path / "source", **FLAGS)
    assert {one["session"]: one["left_out"] for one in found.report["sessions"]} == {
        "push-v2": "no pictures in img_only",
        "reach-v2": "no reach-v2.pkl",
        "sweep-v2": None,
    }


def test_actions_are_clipped_as_in_our_own_demonstrations(tmp_path, imported):
    root = write_short(tmp_path / "source", {"reach-v2": 1})
    path = root / "r3m-processed/r3m_MT10_20/reach-v2.pkl"
    write_pickle(path, lambda told: told["actions"].__setitem__((0, 2), [3, -3, 0.5, 1.5]))
    found = imported(tmp_path / "source", **FLAGS)
    np.testing.assert_array_equal(found.dataset.episode(0).action[2], np.float32([1, -1, 0.5, 1]))
    assert found.report["found"]["actions clipped to [-1, 1]"] >= 1


def test_an_unknown_task_is_told_by_its_name(tmp_path, imported):
    write_short(tmp_path / "source", {"stack-cups": 1})
    assert imported(tmp_path / "source", **FLAGS).dataset.task_of(0) == "stack cups"


def test_only_padding_is_left(tmp_path, imported):
    write_short(tmp_path / "source", {"reach-v2": 1}, moving=1)
    with pytest.raises(UsageError, match="nothing of it can be used"):
        imported(tmp_path / "source", **FLAGS)
