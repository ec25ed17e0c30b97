"""Collecting: the same bytes from the same seed whatever the workers, and nothing lost or doubled by a kill."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import tinyvla
from clients.lerobot_v3 import LeRobotDataset, dataset_hash, staged_keys
from clients.robots.metaworld_tasks import TASKS, instruction
from policy.errors import UsageError
from trainer import collect as module
from trainer.collect import collect
from trainer.collection.attempts import TaskAttempts, attempt_seed, earlier_outcomes
from trainer.collection.resuming import check_resumable
from trainer.collection.settings import CollectArgs, parse_tasks

SETTINGS = {
    "tasks": ("reach", "drawer-close"), "episodes": 2, "cameras": ("corner4",), "size": 32, "noise": 1.0, "seed": 4,
}  # fmt: skip
PATIENCE_S = 240  # for what must happen in the end, on a machine that is busy with other things


def run(out: Path, **changes) -> str:
    """Collect in worker processes; returns what was printed."""
    text = io.StringIO()
    collect(CollectArgs(out=out, **{**SETTINGS, "workers": 1, **changes}), Console(file=text))
    return text.getvalue()


@pytest.fixture(scope="session")
def unbroken(tmp_path_factory) -> Path:
    """Two tasks with two episodes each, by one worker, without an interruption; not to be changed by a test."""
    out = tmp_path_factory.mktemp("collected") / "unbroken"
    run(out)
    return out


@pytest.mark.slow
def test_a_dataset_holds_successes_of_every_task_in_order(unbroken):
    dataset = LeRobotDataset(unbroken)
    assert dataset.num_episodes == 4
    names = [dataset.extra_of(i)["metaworld_task"] for i in range(4)]
    assert names == ["reach", "reach", "drawer-close", "drawer-close"]
    seeds = [dataset.extra_of(i)["seed"] for i in range(4)]
    assert len(set(seeds)) == 4
    for i in range(4):
        episode = dataset.episode(i)
        assert episode.task == instruction(names[i])
        assert episode.extra["success_step"] <= episode.extra["control_steps"] <= 500
        assert np.abs(episode.action).max() <= 1
        assert len(episode.images["corner4"]) == len(episode)
    assert dataset.facts.control_rate_hz == 80
    assert dataset.facts.fps == 20
    assert dataset.facts.actions_per_frame == 4


@pytest.mark.slow
def test_two_workers_give_the_same_bytes_as_one(unbroken, tmp_path):
    run(tmp_path / "two", workers=2)
    assert dataset_hash(tmp_path / "two") == dataset_hash(unbroken)


_COLLECT = """
import os, sys
from trainer.collect import main
os.environ["LP_NUM_THREADS"] = "0"
if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_killed_collection_goes_on_and_loses_and_doubles_nothing(unbroken, tmp_path):
    out, script = tmp_path / "killed", tmp_path / "collect.py"
    script.write_text(_COLLECT)
    flags = [
        "--out", out, "--tasks", *SETTINGS["tasks"], "--episodes", 2, "--cameras", "corner4", "--size", 32,
        "--seed", 4, "--workers", 2,
    ]  # fmt: skip
    command = [sys.executable, str(script), *map(str, flags)]
    environment = {**os.environ, "PYTHONPATH": str(Path(module.__file__).parents[1])}
    child = subprocess.Popen(command, start_new_session=True, env=environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + PATIENCE_S
    while not staged_keys(out):  # the disk is the only thing to be watched from outside
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(child.pid, signal.SIGKILL)  # with its workers, as the kernel or a cluster does it
    child.wait()
    kept = {path.name: path.read_bytes() for path in (out / ".staging").glob("*.parquet")}
    assert kept
    assert not (out / "meta" / "info.json").exists()
    with pytest.raises(UsageError, match="half-written dataset"):
        LeRobotDataset(out)

    run(out)
    assert dataset_hash(out) == dataset_hash(unbroken)


@pytest.mark.slow
def test_a_kill_while_the_dataset_is_put_together_loses_nothing(unbroken, tmp_path, monkeypatch):
    out, right = tmp_path / "killed", module.finalize_dataset

    def dies(root, keys, facts):
        def progress(done, total):
            if done == 2:
                raise KeyboardInterrupt

        right(root, keys, facts, progress=progress)

    monkeypatch.setattr(module, "finalize_dataset", dies)
    with pytest.raises(KeyboardInterrupt):
        run(out)
    monkeypatch.setattr(module, "finalize_dataset", right)
    monkeypatch.setattr(
        "trainer.collection.sources.run_job", lambda *_: pytest.fail("an attempt was made again")
    )
    run(out)
    assert dataset_hash(out) == dataset_hash(unbroken)


@pytest.mark.slow
def test_a_complete_dataset_is_left_alone(unbroken):
    before = dataset_hash(unbroken)
    assert "already complete" in run(unbroken)
    assert dataset_hash(unbroken) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes", [{"seed": 5}, {"size": 64}, {"episodes": 3}, {"noise": 0.0}, {"quality": 0}]
)
def test_a_complete_dataset_of_other_settings_is_never_overwritten(unbroken, changes):
    with pytest.raises(UsageError, match="already holds another dataset"):
        run(unbroken, **changes)


@pytest.fixture
def begun(tmp_path, monkeypatch) -> Path:
    """A collection that was interrupted before its first episode, and always will be."""

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "simulation_workers", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "part")
    return tmp_path / "part"


@pytest.mark.parametrize(
    "changes",
    [{"seed": 5}, {"size": 64}, {"episodes": 3}, {"noise": 0.5}, {"tasks": ("reach",)}, {"quality": 0},
     {"image_every": 2}, {"cameras": ("corner",)}],
)  # fmt: skip
def test_a_collection_is_not_resumed_with_other_settings(begun, changes):
    with pytest.raises(UsageError, match="a part of a dataset made with other settings"):
        run(begun, **changes)


def test_a_collection_is_resumed_with_any_number_of_workers(begun):
    with pytest.raises(KeyboardInterrupt):  # as far as it gets here, and not a refusal
        run(begun, workers=5)


@pytest.mark.parametrize("damaged", [".staging/settings.json", "meta/info.json"])
def test_a_damaged_note_is_one_line_naming_the_file(begun, damaged):
    path = begun / damaged
    path.parent.mkdir(exist_ok=True)
    path.write_text("{")
    with pytest.raises(UsageError, match=rf"{path.name}: damaged"):
        run(begun)


def test_a_kill_before_the_note_was_in_place_is_not_in_the_way(tmp_path):
    staging = tmp_path / "part" / ".staging"
    staging.mkdir(parents=True)
    (staging / "settings.tmp").write_text('{"tas')
    assert check_resumable(tmp_path / "part", {"seed": 4}) is False
    assert json.loads((staging / "settings.json").read_text()) == {"seed": 4}


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(UsageError, match="cannot be written"):
        run(tmp_path / "file")


def test_a_directory_with_something_else_in_it_is_not_used(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="is not empty and holds no dataset"):
        run(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--task", "drawer-opn"], "no task 'drawer-opn'; did you mean drawer-open"),
        (["--tasks", "reach=many"], "'many' is not a number of episodes"),
        (["--tasks", "reach=0"], "nothing to collect"),
        (["--episodes", "0"], "nothing to collect"),
        (["--task", "reach", "--cameras", "rear"], "no camera 'rear'"),
        (["--task", "reach", "--workers", "0"], "--workers"),
        (["--task", "reach", "--size", "0"], "--size"),
        (["--task", "reach", "--image-every", "0"], "--image-every"),
        (["--task", "reach", "--noise", "-1"], "--noise"),
        (["--task", "reach", "--quality", "101"], "--quality"),
        (["--task", "reach", "--seed", "-1"], "--seed"),
        (["--task", "reach", "--cameras", "corner", "corner"], "--cameras"),
        (
            ["--task", "reach", "--cameras", "corner4", "--takeover", "bundles/metaworld8"],
            "it looks at corner too",
        ),
    ],
)
def test_a_wrong_flag_is_one_line_and_leaves_nothing(tmp_path, capsys, flags, message):
    assert tinyvla.main(["collect", "--out", str(tmp_path / "out"), *flags]) == 2
    line = capsys.readouterr().err.strip()
    assert message in line
    assert "\n" not in line
    assert not (tmp_path / "out").exists()


def test_tasks_are_counted_together_or_one_by_one():
    assert parse_tasks(("reach", "push-v3=7"), 3) == {"reach": 3, "push": 7}
    assert parse_tasks(("reach,push=7",), 3) == {"reach": 3, "push": 7}
    assert parse_tasks(("all",), 1) == dict.fromkeys(TASKS, 1)
    assert parse_tasks(("all", "reach=9"), 1)["reach"] == 9


def test_every_attempt_has_a_seed_of_its_own():
    seeds = [attempt_seed(s, t, a) for s in (0, 1) for t in ("reach", "push") for a in range(50)]
    assert len(set(seeds)) == 200
    assert attempt_seed(0, "reach", 3) == seeds[3]


def attempts_of(wanted: int, *outcomes: bool) -> TaskAttempts:
    return TaskAttempts("reach", wanted, dict(enumerate(outcomes)))


def test_the_episodes_kept_are_the_first_successes_by_attempt_and_not_by_time():
    assert attempts_of(2, True, False, True, True).kept() == [0, 2]
    late = TaskAttempts("reach", 2, {1: True, 2: True})  # attempt 0 is still running
    assert late.kept() is None
    late.outcome[0] = True
    assert late.kept() == [0, 1]
    assert attempts_of(3, True, True).kept() is None


def test_attempts_are_made_until_the_task_is_full_and_no_longer():
    state, made = attempts_of(3), []
    for job in state.jobs():
        made.append(job.attempt)
        state.outcome[job.attempt] = job.attempt % 2 == 1
    assert made == [0, 1, 2, 3, 4, 5]
    assert state.kept() == [1, 3, 5]


def test_attempts_of_an_earlier_run_are_not_made_again():
    state = TaskAttempts("reach", 3, {0: True, 2: False})
    made = []
    for job in state.jobs():
        made.append(job.attempt)
        state.outcome[job.attempt] = True
    assert made == [1, 3]


def test_a_hole_left_by_a_kill_is_filled_although_later_attempts_suffice():
    """What is kept follows from the seed alone: attempt 0 belongs to it if it succeeds."""
    state = TaskAttempts("reach", 2, {1: True, 2: True})
    assert [job.attempt for job in state.jobs()] == [0]


def test_failures_are_remembered_and_other_tasks_are_not_mistaken(tmp_path):
    staging = tmp_path / ".staging"
    staging.mkdir()
    for name in ("button-press-000001.failed", "button-press-topdown-000000.failed", "reach-000003.failed"):
        (staging / name).touch()
    staged = {"button-press-000000", "button-press-topdown-000001", "button-press-000002"}
    assert earlier_outcomes(tmp_path, "button-press", staged) == {0: True, 1: False, 2: True}
    assert earlier_outcomes(tmp_path, "button-press-topdown", staged) == {0: False, 1: True}


def test_an_expert_that_never_succeeds_is_given_up():
    attempts_of(1, *[False] * 59).check()
    with pytest.raises(UsageError, match=r"the expert of reach failed 60 times in a row; use less --noise"):
        attempts_of(1, *[False] * 60).check()
    attempts_of(2, *[False] * 60, True).check()
