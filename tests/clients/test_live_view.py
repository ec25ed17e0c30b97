"""What a person sees while the robot moves: rates, latencies, buffer, safety and recording, in panel and log alike."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console

from clients.episode import Episode
from clients.episode_settings import ReceiverSettings, episode_settings
from clients.inprocess import InProcessClient
from clients.live_figures import LiveFigures, look
from clients.live_view import LiveView, line, panel
from clients.measurements import Measurements
from clients.robots.null import NullRobot
from clients.simulated_time import SimulatedClock, run_simulated
from policy.null import NullPolicy, null_spec

SPEC = null_spec()
FIGURES = LiveFigures(
    step=214,
    control_hz=79.98,
    inference_hz=4.96,
    planned=12,
    horizon=48,
    latencies={"round trip": 31.2, "jitter p99": 0.125},
    requests={"accepted": 9, "late": 1},
    active=("starved",),
    onsets={"starved": 2},
)


def shown(thing: object) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(thing)
    return console.file.getvalue()  # type: ignore[attr-defined]


def simulated(periods: int, *, delay_s: float = 0.05, rate_hz: float = 5.0) -> Episode:
    """An episode of the null robot at 80 Hz, its clock at the end of it."""
    clock = SimulatedClock()
    robot = NullRobot(periods=periods, clock=clock)
    asked = episode_settings(robot.info, SPEC, ReceiverSettings(inference_rate_hz=rate_hz), 0, "s")
    episode = Episode(robot, SPEC, asked)
    client = InProcessClient(NullPolicy(SPEC))
    run_simulated(robot, client, episode, clock, delay_s=lambda request: delay_s, inference_rate_hz=rate_hz)
    return episode


def test_a_running_episode_is_told_in_figures():
    figures = look(simulated(240))
    assert figures.control_hz == pytest.approx(80.0)
    assert figures.inference_hz == pytest.approx(5.0)
    assert figures.step == 240 - 4  # 50 ms of holding until the first chunk
    assert 16 < figures.planned <= figures.horizon == 48
    assert figures.latencies["round trip"] == pytest.approx(50.0)
    assert figures.requests["accepted"] >= 14
    assert figures.active == ()


def test_before_anything_has_happened_there_is_nothing_to_tell():
    robot = NullRobot()
    figures = look(Episode(robot, SPEC, episode_settings(robot.info, SPEC, ReceiverSettings(), 0, "s")))
    assert (figures.control_hz, figures.inference_hz, figures.planned) == (None, None, 0)
    assert "– Hz" in line("x", 0.0, figures, None)
    assert "– Hz" in shown(panel("x", 0.0, figures, None))


@pytest.mark.parametrize("text", [shown(panel("reach 1/2", 3.25, FIGURES, "84 frames, 3 lost")),
                                  line("reach 1/2", 3.25, FIGURES, "84 frames, 3 lost")])  # fmt: skip
def test_everything_is_shown_in_the_panel_and_in_the_log(text: str):
    for word in (
        "reach 1/2",
        "214",
        "80.0 Hz",
        "5.0 Hz",
        "31 ms",
        "0.12 ms",
        "12",
        "starved",
        "84 frames, 3 lost",
    ):
        assert word in text


def test_the_panel_says_what_happened_so_far_and_how_full_the_buffer_is():
    text = shown(panel("x", 0.0, FIGURES, None))
    assert "2 x starved" in text
    assert "9 accepted, 1 late" in text
    assert text.count("█") == round(30 * 12 / 48)
    assert "recording" not in text


def test_a_log_gets_a_line_every_two_seconds_and_each_message_once():
    console = Console(file=io.StringIO(), width=200)
    episode = simulated(40)
    with LiveView(console) as view:
        view.begin("reach 1/1")
        view.log("[odd] brackets stay")
        for tenth in range(1, 50):
            view.watch(episode, tenth / 10)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert text.count("reach 1/1") == 2
    assert text.count("[odd] brackets stay") == 1


def test_a_terminal_is_redrawn_in_place():
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    with LiveView(console) as view:
        view.begin("reach 1/1")
        view.watch(simulated(40), 0.5, "7 frames")
        view._live.refresh()  # type: ignore[union-attr]
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "actions planned ahead" in text
    assert "7 frames" in text
    assert "\x1b[1A" in text  # back up, to draw over it


@pytest.mark.parametrize("count", [0, 3, 8, 9, 20])
def test_the_newest_values_of_a_stage_are_those_kept_last(count):
    stage = Measurements(capacity=8)
    for value in range(count):
        stage.add(value)
    np.testing.assert_array_equal(np.sort(stage.newest(5)), np.arange(count)[-5:] if count else [])
    assert len(stage.newest(100)) == min(count, 8)
