"""The report of a run: every figure that was promised, from what happened and nothing else."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from clients.episode_trace import MAX_FRAMES, EpisodeTrace, RequestRecord, StepRecord
from clients.inprocess import InProcessClient
from clients.receiver import EpisodeOutcome, Receiver, ReceiverSettings
from clients.report import run_report, write_report
from clients.report_table import print_report
from clients.robots.null import NullRobot
from clients.timeline import held_spans, write_timeline
from clients.video import write_video
from policy.null import NullPolicy, null_spec

SPEC = null_spec()


@pytest.fixture(scope="module")
def lived() -> EpisodeOutcome:
    """An episode that really ran, for what this file does not set by hand."""
    robot = NullRobot(periods=60, control_rate_hz=400.0)
    settings = ReceiverSettings(inference_rate_hz=20.0)
    return Receiver(robot, InProcessClient(NullPolicy(SPEC)), SPEC, settings).run_episode(0, session="s")


def trace() -> EpisodeTrace:
    """One second at 80 Hz, a request every 200 ms that takes 10, 20, ... ms."""
    made = EpisodeTrace(executed=78, held=1, waited=1, stale=5)
    command = np.zeros(4, np.float32)
    for step in range(80):
        made.steps.append(StepRecord(step / 80, command, step, 0, False, True, command))
    for seq in range(5):
        sent = 0.2 * seq
        made.add_request(
            RequestRecord(seq, 16 * seq, sent, sent, sent + 0.01 * (seq + 1), "accepted", None, 1, 0)
        )
        made.stages["round_trip_ms"].add(10.0 * (seq + 1))
        made.stages["consumed_steps"].add(seq)
    made.add_request(RequestRecord(5, 80, 1.0, 1.0, 1.0, "deadline_exceeded", None, 0, 0))
    return made


def outcome(lived: EpisodeOutcome, **changes: object) -> EpisodeOutcome:
    safety = {
        "starved": {"onsets": 2, "steps": 7},
        "stale_camera": {"onsets": 1, "steps": 4},
        "stale_server": {"onsets": 1, "steps": 5},
    }
    fields = {
        "task": "reach",
        "success": True,
        "achieved_hz": 80.0,
        "skipped": 3,
        "safety": safety,
        "stopped": None,
    }
    return replace(lived, **{"trace": trace(), **fields, **changes})  # type: ignore[arg-type]


def test_rates_misses_starvation_and_stale_counts_are_told(lived):
    report = run_report([outcome(lived), outcome(lived, success=False, stopped="watchdog")], SPEC, {})
    overall = report["overall"]
    assert (overall["episodes"], overall["successes"], overall["success_rate"]) == (2, 1, 0.5)
    assert overall["control_rate_hz"] == 80.0
    assert overall["inference_rate_hz"] == pytest.approx(5.0)
    assert overall["deadline_misses"] == 6
    assert (overall["starved_periods"], overall["stale_periods"]) == (14, 10)
    assert overall["safety_onsets"] == {"starved": 4, "stale_camera": 2, "stale_server": 2}
    assert overall["safety_periods"]["stale_server"] == 10
    assert overall["requests"] == {"accepted": 10, "deadline_exceeded": 2}
    assert overall["stopped"] == {"watchdog": 1}


def test_every_stage_has_its_percentiles_over_all_episodes(lived):
    overall = run_report([outcome(lived), outcome(lived)], SPEC, {})["overall"]
    assert overall["stages"]["round_trip_ms"] == {
        "count": 10, "mean": 30.0, "p50": 30.0, "p95": 50.0, "p99": 50.0, "max": 50.0,
    }  # fmt: skip
    assert overall["stages"]["capture_ms"] is None  # not measured is not zero


def test_tasks_are_told_apart(lived):
    report = run_report([outcome(lived), outcome(lived, task="push", success=False)], SPEC, {})
    assert {task: row["successes"] for task, row in report["tasks"].items()} == {"reach": 1, "push": 0}


def test_the_report_is_json_and_whole_or_not_there(lived, tmp_path):
    recording = {"frames": 5, "lost": 2}
    report = run_report([lived], SPEC, {"task": ("reach",)}, recording)
    path = tmp_path / "deep" / "report.json"
    write_report(path, report)
    read = json.loads(path.read_text())
    assert read["format"] == "tinyvla-realtime-report/1"
    assert read["recording"] == recording
    assert [entry.name for entry in path.parent.iterdir()] == ["report.json"]


def test_what_a_driver_tells_costs_no_report_whatever_it_is(lived, tmp_path):
    told = {
        "force": np.float32(0.5), "peak": float("nan"), "stages": np.array([1, 2]), "docked": np.bool_(True),
        "at": (1.0, np.inf), "where": tmp_path,
    }  # fmt: skip
    path = tmp_path / "report.json"
    write_report(path, run_report([outcome(lived, robot=told)], SPEC, {}))
    [episode] = json.loads(path.read_text())["episodes"]
    assert episode["robot"] == {
        "force": 0.5, "peak": None, "stages": [1, 2], "docked": True, "at": [1.0, None], "where": str(tmp_path),
    }  # fmt: skip


def test_a_film_of_odd_frames_is_a_film(tmp_path):
    import av

    frames = [np.full((33, 47, 3), 200, np.uint8)] * 3
    assert write_video(tmp_path / "odd.mp4", frames, 20.0) == 3
    with av.open(str(tmp_path / "odd.mp4")) as film:
        seen = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    assert [frame.shape for frame in seen] == [(32, 46, 3)] * 3
    assert all(abs(frame.mean() - 200) < 5 for frame in seen)


def test_the_table_says_what_went_wrong_and_nothing_else(lived):
    def printed(*outcomes: EpisodeOutcome, **recording: int) -> str:
        console = Console(file=io.StringIO(), width=140)
        counts = {"frames": 0, "lost": 0, "skipped": 0, "unusable": 0, "dropped": 0, **recording}
        print_report(console, run_report(outcomes, SPEC, {}, counts))
        return console.file.getvalue()  # type: ignore[attr-defined]

    bad = printed(outcome(lived, stopped="watchdog"), lost=3, dropped=3)
    for words in (
        "stale_camera 1 x, 4 control periods",
        "1 x deadline_exceeded",
        "stopped by the safety layer: 1 x watchdog",
        "0 frames, 3 lost",
        "2 (p50), 4 (max)",
    ):
        assert words in bad
    good = printed(outcome(lived, safety={}, trace=lived.trace))
    assert "safety:" not in good
    assert "lost" not in good


def test_frames_are_kept_small_and_few():
    kept = EpisodeTrace()
    for at in range(200):
        kept.add_frame(at, np.full((720, 1280, 3), at, np.uint8))
    assert len(kept.frames) <= MAX_FRAMES
    assert all(image.shape == (180, 320, 3) for _, image in kept.frames)
    assert all(image.base is None for _, image in kept.frames)  # a view would keep the whole frame
    assert [image[0, 0, 0] for _, image in kept.frames] == [at for at, _ in kept.frames]


def test_periods_held_in_a_row_are_one_span_of_the_timeline():
    command = np.zeros(4, np.float32)
    steps = [
        StepRecord(10 + period / 4, None if how == "held" else command, 0, 0, False, True, command)
        for period, how in enumerate(
            ["held", "held", "moved", "moved", "held", "moved", "held", "held", "held"]
        )
    ]
    assert held_spans(steps, 0.25) == [(10.0, 10.5), (11.0, 11.25), (11.5, 12.25)]
    assert held_spans([], 0.25) == []


def test_the_timeline_is_a_picture_even_of_an_episode_without_a_reply(lived, tmp_path):
    for name, one in {"lived": lived, "silent": outcome(lived, trace=EpisodeTrace())}.items():
        write_timeline(tmp_path / f"{name}.png", one, SPEC)
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
