"""`tinyvla import`: what it leaves is sound and is trained on, a kill loses nothing, bad input is one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import tinyvla
from clients.lerobot_v3 import LeRobotDataset, dataset_hash
from policy.errors import UsageError
from tests.trainer.importing.recordings import (
    VIEWS,
    Motion,
    edit_states,
    write_episode,
    write_recv_all,
    write_short,
)
from trainer import import_command
from trainer.checkpoint import load_checkpoint
from trainer.diagnose import run as diagnose
from trainer.diagnosis import subject as subject_module
from trainer.diagnosis.subject import SubjectArgs
from trainer.settings import TrainArgs
from trainer.train import Trainer
from trainer.training_data import open_training_data


def sitting(root: Path, number: int, seconds: float = 5.0) -> Path:
    """A recording that a hole in the robot's states cuts in two."""
    name, motion = f"recv_all_20251027_12000{number}", Motion(number)
    session = write_recv_all(root, name, seconds=seconds, motion=motion, sensor=number == 0)
    edit_states(session, lambda rows: rows[:212] + rows[260:])
    return session


@pytest.fixture(scope="module")
def sittings(tmp_path_factory) -> Path:
    """Three of them, of which the first has a sensor; not to be changed by a test."""
    root = tmp_path_factory.mktemp("sittings")
    for number in range(3):
        sitting(root, number)
    return root


def check_sound(dataset: Path, monkeypatch) -> None:
    """`tinyvla diagnose data` finds nothing wrong with it; the network that it builds is kept small."""
    settings = {"horizon": 8, "max_prefix": 4, "hidden_dim": 24, "layers": 1, "val_split": 0.2}
    monkeypatch.setattr(
        subject_module, "fresh_settings", lambda places: TrainArgs(dataset_dir=places, **settings)
    )
    assert diagnose("data", SubjectArgs(dataset, samples=16, device="cpu")).faults == ()


@pytest.mark.usefixtures("small_vision")
def test_what_is_imported_is_sound_and_is_trained_on(sittings, imported, make_args, monkeypatch):
    found = imported(sittings, views=("view1", "view2"))
    assert found.dataset.num_episodes == 6
    check_sound(found.root, monkeypatch)

    args = make_args(dataset_dir=(found.root,), epochs=1, batch_size=64, grad_accum=1, auxiliary=())
    trainer = Trainer(args)
    trainer.total_steps = trainer.per_epoch = trainer.steps_per_epoch = 2
    trainer.run()
    checkpoint = load_checkpoint(args.out / "last")
    assert checkpoint.state["progress"]["steps"] == 2
    assert checkpoint.spec.action.units == ("mm", "mm", "mm", "deg", "deg", "deg")
    assert [sensor.name for sensor in checkpoint.spec.sensors] == ["needle_tip"]


@pytest.mark.usefixtures("small_vision")
def test_short_metaworld_is_sound_and_is_trained_on(tmp_path, imported, make_args, monkeypatch):
    write_short(tmp_path / "source", {"reach-v2": 6, "push-v2": 6})
    found = imported(tmp_path / "source", size="24x24")
    check_sound(found.root, monkeypatch)
    trainer = Trainer(make_args(dataset_dir=(found.root,), epochs=1, batch_size=64))
    trainer.run()
    assert set(load_checkpoint(tmp_path / "run" / "last").spec.instruction.by_task) == {"reach", "push"}


def test_validation_holds_out_whole_sessions(sittings, imported):
    root = imported(sittings).root
    for seed in range(4):
        train, held_out = open_training_data([root], 8, 4, 0.3, seed).splits[0]
        assert len(held_out) == 2
        assert {n // 2 for n in train}.isdisjoint(n // 2 for n in held_out)


def test_an_import_that_was_killed_goes_on_to_the_same_dataset(sittings, imported, tmp_path, monkeypatch):
    whole = imported(sittings, out=tmp_path / "whole").root
    read: list[str] = []
    keep = import_command._session

    def killed_at_the_last(out, name, reader, source):
        if name.endswith("2") and len(read) < 3:
            raise KeyboardInterrupt
        return keep(out, name, lambda report: (read.append(name), reader(report))[1], source)

    monkeypatch.setattr(import_command, "_session", killed_at_the_last)
    with pytest.raises(KeyboardInterrupt):
        imported(sittings)
    with pytest.raises(UsageError, match=r"half-written dataset .*`tinyvla import` command again"):
        LeRobotDataset(tmp_path / "dataset")
    with pytest.raises(UsageError, match="a part of a dataset made with other settings"):
        imported(sittings, tolerance_ms=11)
    first = list(read)
    assert len(first) == 2
    read.append("again")
    again = imported(sittings)
    assert read[3:] == ["recv_all_20251027_120002"]
    assert dataset_hash(again.root) == dataset_hash(whole)
    assert (again.root / "import-report.json").read_bytes() == (whole / "import-report.json").read_bytes()
    assert not (again.root / ".staging").exists()


def test_an_import_that_was_killed_while_finalizing_goes_on(sittings, imported, tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("clients.lerobot_v3.writer.write_tasks", killed)
        with pytest.raises(KeyboardInterrupt):
            imported(sittings)
    with pytest.raises(UsageError, match="half-written"):
        LeRobotDataset(tmp_path / "dataset")
    assert imported(sittings).dataset.num_episodes == 6


def test_a_complete_import_is_left_as_it_is(sittings, imported, tmp_path):
    root = imported(sittings).root
    before = dataset_hash(root)
    assert "is already complete" in imported(sittings).said
    assert dataset_hash(root) == before
    with pytest.raises(UsageError, match="already holds another dataset"):
        imported(sittings, fps=10)


def test_another_recording_of_the_same_name_is_not_taken_for_the_one_that_was_imported(
    imported, tmp_path, monkeypatch
):
    for day in range(2):
        for number in range(2):
            write_episode(
                tmp_path / f"day{day}", f"episode_{number}", sensor=False, motion=Motion(2 * day + number)
            )
    shutil.copytree(tmp_path / "day0", tmp_path / "copy")
    (tmp_path / "copy/episode_0/.DS_Store").write_bytes(b"x")
    keep = import_command._session

    def killed_at_the_second(out, name, *rest):
        if name == "episode_1":
            raise KeyboardInterrupt
        return keep(out, name, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(import_command, "_session", killed_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            imported(tmp_path / "day0")
    with pytest.raises(UsageError, match="holds episode_0 made from other files than are there now"):
        imported(tmp_path / "day1")
    imported(tmp_path / "copy")
    assert "is already complete" in imported(tmp_path / "day0").said
    with pytest.raises(UsageError, match="holds episode_0 made from other files than are there now"):
        imported(tmp_path / "day1")


def test_what_was_mended_is_read_when_the_command_is_given_again(sittings, imported, tmp_path, monkeypatch):
    source = tmp_path / "source"
    shutil.copytree(sittings, source)
    view = source / "recv_all_20251027_120001/View2"
    view.rename(tmp_path / "elsewhere")

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(import_command, "finalize_dataset", killed)
        with pytest.raises(KeyboardInterrupt):
            imported(source)
    (tmp_path / "elsewhere").rename(view)
    assert imported(source).dataset.num_episodes == 6


def test_the_report_adds_up(sittings, imported):
    found = imported(sittings)
    sessions = found.report["sessions"]
    assert [one["session"] for one in sessions] == [f"recv_all_20251027_12000{n}" for n in range(3)]
    assert found.report["frames"] == sum(one["frames"] for one in sessions) == found.dataset.num_frames
    for what, count in found.dropped.items():
        assert count == sum(one["dropped"].get(what, 0) for one in sessions)
        assert what in found.said
    for one in sessions:
        # Every picture of every view is in a frame or in the report.
        instants = one["found"]["pictures"] / len(VIEWS)
        dropped = sum(count for what, count in one["dropped"].items() if what.startswith("frame"))
        assert instants == one["frames"] + dropped


def test_statistics_are_those_of_the_data(sittings, imported):
    dataset = imported(sittings).dataset
    actions = np.concatenate([episode.action for episode in dataset.episodes()])
    np.testing.assert_allclose(dataset.stats["action"]["mean"], actions.mean(0), atol=1e-6)
    np.testing.assert_allclose(dataset.stats["action"]["max"], actions.max(0), atol=1e-6)


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["nowhere"], "nowhere: no such directory"),
        (["empty"], "nothing of recv_all_\\*, episode_\\* or short-MetaWorld's img_only in it"),
        (["rig", "--layout", "short-metaworld"], "nothing of short-metaworld in it"),
        (["both"], "holds several layouts; choose one with --layout recv-all | episodes"),
        (["rig", "--tolerance-ms", "0"], "--tolerance-ms must be above 0"),
        (["rig", "--view-tolerance-ms", "nan"], "--view-tolerance-ms must be above 0"),
        (["rig", "--fps", "7"], "--fps must be a divisor of the control rate, 20"),
        (["rig", "--fps", "-1"], "--fps must be above 0"),
        (["rig", "--size", "big"], "--size must be WIDTHxHEIGHT"),
        (["rig", "--quality", "0"], "--quality must be 1 ... 100"),
        (["rig", "--views", "view1", "view1"], "--views must be at least one name"),
        (["rig", "--views", "../x"], "--views must be names such as view1"),
        (["rig", "--camera-offset", "inf"], "--camera-offset must be a number of seconds"),
        (["rig", "--min-frames", "0"], "--min-frames must be 1 or more"),
        (["rig", "--instruction", " "], "--instruction must be a text"),
        (["rig", "--layout", "other"], "--layout"),
        (["rig"], "nothing of it can be used; recv_all_20251027_120000: view3 is missing"),
    ],
)
def test_bad_input_is_one_line(tmp_path, monkeypatch, capsys, flags, told):
    (tmp_path / "empty").mkdir()
    for place in ("rig", "both"):
        session = tmp_path / place / "recv_all_20251027_120000"
        (session / "View1").mkdir(parents=True)
        (session / "View1/OAK_0.1.jpg").write_bytes(b"")
        (session / "View2").mkdir()
        shutil.copy(session / "View1/OAK_0.1.jpg", session / "View2")
        rows = "\n".join(",".join(["0.%02d" % n] * 16) for n in range(30))  # noqa: UP031
        header = ",".join(
            ["recv_timestamp", "origin_timestamp", "send_timestamp", "force_placeholder"]
            + [f"joint_{n}" for n in range(1, 7)]
            + [f"pose_{n}" for n in "xyzabr"]
        )
        (session / "robot_state_x.csv").write_text(f"{header}\n{rows}\n")
    (tmp_path / "both/episode_1").mkdir()
    monkeypatch.chdir(tmp_path)
    assert tinyvla.main(["import", *flags, "--out", "out"]) == 2
    line = capsys.readouterr().err.strip()
    assert line.startswith("tinyvla import: ")
    assert "\n" not in line
    with pytest.raises(AssertionError, match=told):
        raise AssertionError(line)
    assert not (tmp_path / "out").exists()


def test_the_command_says_what_it_did(tmp_path, capsys):
    write_episode(tmp_path / "source", sensor=False)
    out = tmp_path / "dataset"
    flags = ["--out", str(out), "--views", *VIEWS, "--instruction", "insert it"]
    assert tinyvla.main(["import", str(tmp_path / "source"), *flags]) == 0
    said = capsys.readouterr().out
    for word in ("imported", "episode_20251030_120000", "no sensor data", "1 episodes in"):
        assert word in said
    assert json.loads((out / "import-report.json").read_text())["episodes"] == 1
    dataset = LeRobotDataset(out)
    assert dataset.task_of(0) == "insert it"
    assert dataset.facts.cameras["view5"] == (72, 128)
