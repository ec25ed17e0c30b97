"""The delay sweep: cells count what happened, a killed sweep goes on, the same seed gives the same episode."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from clients.episode_settings import ReceiverSettings
from clients.inprocess import InProcessClient
from clients.robots.metaworld import MetaWorldRobot
from clients.simulated_time import SimulatedClock
from policy.errors import UsageError
from policy.null import NullPolicy, null_spec
from trainer.evaluation.delayed_rollout import DelayedEpisode, run_delayed_episode
from trainer.evaluation.journal import Journal
from trainer.evaluation.sweep_chart import draw_sweep
from trainer.evaluation.sweep_table import cells_of, markdown
from trainer.sweep import SweepArgs, sweep

ONE = DelayedEpisode(
    task="reach", chunk_policy="rtc", delay_ms=50.0, episode=0, seed=3, success=True, periods=100, executed=90,
    held=10, seams=2, seam_jump=0.3, interior_steps=80, interior_step=0.1, jerk=50.0,
)  # fmt: skip


def test_a_cell_counts_episodes_and_weighs_seams_by_their_number():
    lost = replace(ONE, episode=1, success=False, periods=300, held=90, seams=6, seam_jump=0.1, jerk=150.0)
    none = replace(ONE, chunk_policy="sync", seams=0, seam_jump=None)
    cells = cells_of([lost, ONE, none])
    assert [cell.chunk_policy for cell in cells] == ["sync", "rtc"]
    cell = cells[1]
    assert (cell.episodes, cell.successes, cell.rate, cell.by_task) == (2, 1, 0.5, {"reach": 1})
    assert cell.periods_to_success == 100
    assert cell.held == pytest.approx(0.25)
    assert cell.seam_jump_ratio == pytest.approx(0.15 / 0.1)
    assert cell.jerk == 100
    assert cells[0].seam_jump_ratio is None
    table = markdown(cells, "protocol").splitlines()
    assert table[-1].startswith("| rtc | 50 ms | 1/2 | 50 % |")


def test_a_picture_is_drawn_even_where_a_figure_is_missing(tmp_path):
    cells = cells_of([ONE, replace(ONE, chunk_policy="sync", seam_jump=None, seams=0, jerk=None)])
    draw_sweep(cells, tmp_path / "sweep.png", "title")
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")


def test_a_journal_goes_on_behind_a_line_that_a_kill_cut_off(tmp_path):
    path = tmp_path / "episodes.jsonl"
    with Journal(path, DelayedEpisode) as journal:
        journal.add(ONE)
    with path.open("a") as file:
        file.write('{"task": "rea')
    with Journal(path, DelayedEpisode) as journal:
        assert journal.done == [ONE]
        journal.add(replace(ONE, episode=1))
    with Journal(path, DelayedEpisode) as journal:
        assert journal.done == [ONE, replace(ONE, episode=1)]


@pytest.mark.parametrize("line", ['{"task": "reach"}', "[1]", "{"])
def test_a_journal_of_something_else_is_refused_and_stays_as_it_is(tmp_path, line):
    path = tmp_path / "episodes.jsonl"
    with Journal(path, DelayedEpisode) as journal:
        journal.add(ONE)
    path.write_text(f"{line}\n{path.read_text()}")
    before = path.read_bytes()
    with pytest.raises(UsageError, match="line 1: no DelayedEpisode"), Journal(path, DelayedEpisode):
        pass
    assert path.read_bytes() == before


def test_two_commands_do_not_write_into_one_journal(tmp_path):
    path = tmp_path / "episodes.jsonl"
    with Journal(path, DelayedEpisode) as journal:
        with pytest.raises(UsageError, match="another process"), Journal(path, DelayedEpisode):
            pass
        journal.add(ONE)
    with Journal(path, DelayedEpisode) as journal:
        assert journal.done == [ONE]


def test_the_same_seed_gives_the_same_episode_to_the_bit():
    clock = SimulatedClock()
    robot = MetaWorldRobot("reach", cameras=("corner4",), size=32, clock=clock)
    spec = null_spec(cameras=("corner4",), size=32)
    try:

        def once(seed: int) -> DelayedEpisode:
            settings = ReceiverSettings(chunk_policy="rtc", seed=0)
            client = InProcessClient(NullPolicy(spec))
            return run_delayed_episode(
                robot, clock, client, spec, settings, delay_ms=100.0, episode=0, seed=seed
            )

        first = once(7)
        assert once(7) == first
        assert once(8) != replace(first, seed=8)
    finally:
        robot.close()
    assert first.executed + first.held == first.periods
    assert first.held == 8  # only until the first chunk comes


def test_an_episode_does_not_depend_on_those_that_its_worker_ran_before():
    """At 800 ms a plan is as old as it may be in the very period in which it is replaced."""
    clock = SimulatedClock()
    robot = MetaWorldRobot("reach", cameras=("corner4",), size=32, clock=clock)
    spec = null_spec(cameras=("corner4",), size=32)
    found = []
    try:
        for before in (0.0, 6.25, 1000.0125):
            clock.now = before
            found.append(
                run_delayed_episode(
                    robot, clock, InProcessClient(NullPolicy(spec)), spec, ReceiverSettings(chunk_policy="rtc", seed=0),
                    delay_ms=800.0, episode=0, seed=7,
                )
            )  # fmt: skip
    finally:
        robot.close()
    assert found == [found[0]] * 3


@pytest.mark.slow
def test_a_sweep_leaves_table_json_and_picture_and_is_not_run_twice(tmp_path):
    args = SweepArgs(
        out=tmp_path / "out", tasks=("drawer-close",), episodes=1, delays=(0.0, 100.0),
        chunk_policies=("rtc",), workers=1,
    )  # fmt: skip
    console = Console(quiet=True)
    cells = sweep(args, console)
    assert [(cell.chunk_policy, cell.delay_ms, cell.episodes) for cell in cells] == [
        ("rtc", 0.0, 1), ("rtc", 100.0, 1),
    ]  # fmt: skip
    for name in ("episodes.jsonl", "sweep.json", "sweep.md", "sweep.png"):
        assert (args.out / name).stat().st_size > 100
    lines = (args.out / "episodes.jsonl").read_text()
    assert sweep(args, console) == cells
    assert (args.out / "episodes.jsonl").read_text() == lines
    with pytest.raises(UsageError, match="another policy or protocol"):
        sweep(replace(args, seed=1), console)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"episodes": 0}, "at least 1"),
        ({"seed": -1}, "--seed must be 0 or more"),
        ({"delays": (-1.0,)}, "--delays"),
        ({"delays": ()}, "--delays"),
        ({"inference_rate": 0.0}, "--inference-rate"),
        ({"tasks": ("reach-v9",)}, "did you mean"),
        ({"tasks": ()}, "need a name each"),
        ({"chunk_policies": ()}, "need a name each"),
    ],
)
def test_a_wrong_flag_is_told_before_anything_runs(tmp_path, wrong, told):
    with pytest.raises(UsageError, match=told):
        sweep(replace(SweepArgs(out=Path(tmp_path / "out")), **wrong), Console(quiet=True))
    assert not (tmp_path / "out").exists()
