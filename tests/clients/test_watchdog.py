"""The watchdog: a control thread that misses its beat is stood in for, and its late command is not sent."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest

from clients.episode import Episode
from clients.episode_settings import ReceiverSettings, episode_settings
from clients.inprocess import InProcessClient
from clients.receiver import Receiver
from clients.robots.null import NullRobot
from clients.safety_limits import SafetyLimits
from clients.watchdog import PERIODS, Watchdog
from policy.null import NullPolicy, null_spec

SPEC = null_spec()
LIMITS = SafetyLimits.of(SPEC.action, stale_plan_s=600.0)
PERIOD = 1 / 80


class HaltableRobot(NullRobot):
    halted = 0

    def halt(self) -> None:
        self.halted += 1


class Run:
    """An episode with a plan, in simulated time."""

    def __init__(self, robot: NullRobot | None = None, limits: SafetyLimits = LIMITS) -> None:
        self.now = 0.0
        self.lines: list[str] = []
        self.robot = robot or NullRobot(clock=lambda: self.now)
        settings = episode_settings(self.robot.info, SPEC, ReceiverSettings(limits=limits, seed=1), 1, "s")
        self.episode = Episode(self.robot, SPEC, settings, self.lines.append)
        self.watchdog = Watchdog(self.episode, self.robot, PERIOD, limits.watchdog_s, lambda: self.now)
        observation = self.robot.observe()
        assert observation is not None
        assert self.episode.usable(observation, 0.0)
        pending = self.episode.request(observation, 0.0)
        self.episode.replied(pending, InProcessClient(NullPolicy(SPEC)).act(pending.request), 0.0)

    def control(self) -> None:
        self.watchdog.beat(self.now)
        self.episode.control_period(self.now)

    def look(self, later: float) -> bool:
        self.now += later
        return self.watchdog.look(self.now)


def test_a_beat_on_time_changes_nothing():
    run = Run()
    for _ in range(20):
        run.control()
        assert not run.look(PERIOD)
    assert run.episode.safety.counts() == {}
    assert len(run.robot.executed) == 20


def test_a_missed_beat_holds_period_after_period_until_control_runs_again():
    run = Run()
    run.control()
    assert not run.look(run.watchdog.limit_s)
    for _ in range(8):
        assert run.look(PERIOD)
    np.testing.assert_array_equal(run.robot.commands[-1][:3], 0)
    assert len(run.robot.executed) == 1
    run.control()
    assert not run.look(PERIOD)
    assert len(run.robot.executed) == 2  # the plan goes on where it was: holding consumed nothing
    assert run.episode.safety.counts() == {"watchdog": {"onsets": 1, "steps": 8}}
    assert [line for line in run.lines if "watchdog" in line] == [
        "safety: holding (watchdog): the control thread has not run for 0.11 s",
        "safety: watchdog is over",
    ]


def test_what_a_late_control_period_had_planned_is_not_sent():
    """The control thread hangs between its decision and the robot; the watchdog takes over meanwhile."""
    run = Run()
    run.control()
    decide = run.episode.safety.command

    def hanging(*arguments, **options):
        decision = decide(*arguments, **options)
        assert decision.command is not None
        assert run.look(1.0)
        return decision

    run.episode.safety.command = hanging  # type: ignore[method-assign]
    run.control()
    assert len(run.robot.executed) == 1
    np.testing.assert_array_equal(run.robot.commands[-1][:3], run.robot.executed[0][:3] * 0.25)  # fading out
    run.episode.safety.command = decide  # type: ignore[method-assign]
    run.control()
    assert len(run.robot.executed) == 2


def test_a_driver_that_hangs_gets_no_second_command_and_is_halted_once():
    """`act` does not return; another thread must not call the same driver meanwhile."""
    hung, release = threading.Event(), threading.Event()

    class Hanging(HaltableRobot):
        def act(self, action: np.ndarray) -> None:
            hung.set()
            assert release.wait(30)
            super().act(action)

    run = Run(Hanging(clock=lambda: 0.0))
    control = threading.Thread(target=run.control)
    control.start()
    assert hung.wait(30)
    for _ in range(5):
        assert run.look(1.0)
    assert run.robot.commands == []
    assert run.robot.halted == 1  # type: ignore[attr-defined]
    release.set()
    control.join(30)
    assert run.episode.safety.counts()["watchdog"]["onsets"] == 1


def test_an_operator_may_want_it_to_end_the_episode():
    run = Run(limits=replace(LIMITS, responses={"watchdog": "stop"}))
    assert run.look(1.0)
    assert run.episode.stopped == "watchdog"


def test_a_slow_robot_is_given_a_few_periods():
    assert Watchdog(Run().episode, NullRobot(), 0.2, 0.1, lambda: 0.0).limit_s == pytest.approx(PERIODS * 0.2)


def test_a_limit_that_is_never_reached_is_watched_until_the_episode_ends():
    watchdog, ended = Watchdog(Run().episode, NullRobot(), PERIOD, float("inf")), threading.Event()
    failed = []
    thread = threading.Thread(target=lambda: failed.append(raised_by(lambda: watchdog.run(ended))))
    thread.start()
    ended.set()
    thread.join(30)
    assert failed == [None]


def raised_by(body) -> Exception | None:
    try:
        body()
    except Exception as error:
        return error
    return None


def test_the_receiver_holds_while_its_control_thread_hangs_and_goes_on_afterwards():
    """With real threads: the log call of a fault blocks until the watchdog has held the robot."""
    held = threading.Event()
    done = threading.Event()

    class Robot(NullRobot):
        def hold(self, command: np.ndarray) -> None:
            super().hold(command)
            if threading.current_thread().name == "watchdog":
                held.set()

        def act(self, action: np.ndarray) -> None:
            super().act(action)
            if held.is_set():
                done.set()

    def blocking_log(line: str) -> None:
        if "bounds" in line:
            assert held.wait(30)

    class TooFar(InProcessClient):
        def act(self, request):
            reply = super().act(request)
            return replace(reply, actions=reply.actions * 2)

    limits = replace(SafetyLimits.of(SPEC.action, stale_plan_s=600.0), watchdog_s=0.05)
    robot = Robot(periods=10**9, control_rate_hz=200.0)
    receiver = Receiver(
        robot, TooFar(NullPolicy(SPEC)), SPEC, ReceiverSettings(limits=limits), blocking_log, interrupt=done
    )
    outcome = receiver.run_episode(0, session="s")
    assert outcome.safety["watchdog"]["onsets"] >= 1
    assert outcome.interrupted
    np.testing.assert_array_equal(robot.commands[-1][:3], 0)


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_robot_that_fails_while_the_watchdog_holds_it_ends_the_episode():
    """Else the watchdog would be gone without a word, and the robot driven on without one."""
    tried = threading.Event()

    class Robot(NullRobot):
        def hold(self, command: np.ndarray) -> None:
            super().hold(command)
            if threading.current_thread().name == "watchdog":
                tried.set()
                raise RuntimeError("motor fault")

        def act(self, action: np.ndarray) -> None:
            super().act(action)
            if len(self.executed) == 5:
                self.late = True

        late = False

        @property
        def done(self) -> bool:
            if self.late:
                assert tried.wait(30)
            return super().done

    limits = replace(LIMITS, watchdog_s=0.05)
    receiver = Receiver(
        Robot(periods=400, control_rate_hz=200.0),
        InProcessClient(NullPolicy(SPEC)),
        SPEC,
        ReceiverSettings(limits=limits),
    )
    with pytest.raises(RuntimeError, match="motor fault"):
        receiver.run_episode(0, session="s")
