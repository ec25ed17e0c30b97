"""The receiver with its real threads and clock: control never waits for inference, and it ends cleanly."""

from __future__ import annotations

import gc
import threading
from dataclasses import replace

import numpy as np
import pytest

from clients.inprocess import InProcessClient
from clients.receiver import Receiver, ReceiverSettings, chunk_policy_for
from clients.robots.null import NullRobot
from clients.safety_limits import SafetyLimits
from policy.errors import TinyVLAError
from policy.null import NullPolicy, null_spec
from service.wire.messages import ActReply, ActRequest

SPEC = null_spec(horizon=48)
# Whatever the machine does meanwhile: a test that counts periods or causes must not see its pauses.
PATIENT = replace(SafetyLimits.of(SPEC.action, stale_plan_s=600.0), watchdog_s=600.0)


class FaultyClient(InProcessClient):
    """Answers until told otherwise."""

    def __init__(self, before=lambda number: None) -> None:
        super().__init__(NullPolicy(SPEC))
        self.before = before
        self.after = lambda number: None
        self.number = 0

    def act(self, request: ActRequest) -> ActReply:
        self.number += 1
        self.before(self.number)
        reply = super().act(request)
        self.after(self.number)
        return reply


def assert_no_thread_is_left() -> None:
    assert not {"control", "inference", "watchdog"} & {thread.name for thread in threading.enumerate()}


def run(client, robot: NullRobot | None = None, lines: list[str] | None = None, **settings):
    robot = robot or NullRobot(periods=60, control_rate_hz=200.0)
    asked = ReceiverSettings(inference_rate_hz=20.0, limits=PATIENT, **settings)
    receiver = Receiver(robot, client, SPEC, asked, (lines or []).append)
    return robot, receiver.run_episode(3, session="s")


def test_no_collection_of_what_was_loaded_before_interrupts_an_episode():
    before, during = gc.get_freeze_count(), []
    run(FaultyClient(before=lambda number: during.append(gc.get_freeze_count())))
    assert min(during) > before + 10_000
    assert gc.get_freeze_count() == before


def test_an_episode_runs_to_its_end_and_every_part_is_measured():
    robot, outcome = run(FaultyClient())
    assert outcome.success
    assert not outcome.interrupted
    assert outcome.ticks == 60
    assert len(robot.commands) == 61  # one more: it is left holding
    assert outcome.trace.executed == len(robot.executed) > 0
    for stage in ("round_trip_ms", "capture_ms", "control_jitter_ms", "control_work_ms", "reaction_ms"):
        assert outcome.trace.stages[stage].summary() is not None
    assert_no_thread_is_left()


def test_control_goes_on_while_inference_is_stuck():
    """The reply is released by the control side itself: if control waited for it, this would never end."""
    released, interrupt = threading.Event(), threading.Event()

    class Robot(NullRobot):
        def hold(self, command: np.ndarray) -> None:
            super().hold(command)
            if len(self.executed) >= SPEC.horizon:  # the first chunk is used up: the robot has starved
                released.set()

    def stuck_from_the_second_on(number: int) -> None:
        if number > 1:
            assert released.wait(30)

    robot = Robot(periods=10**9, control_rate_hz=500.0)
    client = FaultyClient(stuck_from_the_second_on)
    client.after = lambda number: interrupt.set() if number == 3 else None
    outcome = Receiver(
        robot, client, SPEC, ReceiverSettings(limits=PATIENT), interrupt=interrupt
    ).run_episode(3, session="s")
    assert outcome.safety["starved"]["onsets"] >= 1


def test_a_server_that_fails_for_a_while_is_outlived():
    def down(number: int) -> None:
        if number in (1, 2, 4):
            raise ConnectionError("connection refused")
        if number == 5:
            raise TinyVLAError("overloaded", "try again")

    lines: list[str] = []
    client = FaultyClient(down)

    class UntilAnswered(NullRobot):
        @property
        def done(self) -> bool:
            return client.number > 8

    robot = UntilAnswered(control_rate_hz=200.0)
    receiver = Receiver(robot, client, SPEC, ReceiverSettings(inference_rate_hz=50.0), lines.append)
    outcome = receiver.run_episode(0, session="s")
    assert outcome.trace.outcomes["connection"] == 3
    assert outcome.trace.outcomes["overloaded"] == 1
    assert outcome.trace.outcomes["accepted"] >= 3
    assert sum("no reply" in line for line in lines) == 2  # once per onset, not once per failure


def test_a_refusal_that_will_not_pass_ends_the_episode_with_the_robot_holding():
    def refuse(number: int) -> None:
        if number >= 3:
            raise TinyVLAError("contract_mismatch", "wrong robot")

    robot = NullRobot(periods=10**9, control_rate_hz=200.0)
    with pytest.raises(TinyVLAError, match="wrong robot"):
        run(FaultyClient(refuse), robot)
    np.testing.assert_array_equal(robot.commands[-1][:3], 0)
    assert_no_thread_is_left()


def test_a_refusal_that_stands_alone_is_outlived():
    """A request may have been damaged on its way; only one that is refused again and again is wrong."""

    def refuse(number: int) -> None:
        if number in (2, 3, 5, 6):
            raise TinyVLAError("malformed", "not MessagePack")

    client = FaultyClient(refuse)

    class UntilAnswered(NullRobot):
        @property
        def done(self) -> bool:
            return client.number > 8

    _, outcome = run(client, UntilAnswered(control_rate_hz=200.0))
    assert outcome.trace.outcomes["malformed"] == 4


def test_a_robot_that_fails_ends_the_episode_too():
    class Broken(NullRobot):
        def act(self, action: np.ndarray) -> None:
            raise RuntimeError("motor fault")

    with pytest.raises(RuntimeError, match="motor fault"):
        run(FaultyClient(), Broken())
    assert_no_thread_is_left()


def test_an_interruption_leaves_the_robot_holding():
    class Watcher:
        def watch(self, episode, elapsed_s: float) -> None:
            if episode.step:
                raise KeyboardInterrupt

    robot = NullRobot(periods=10**9, control_rate_hz=200.0)
    receiver = Receiver(robot, FaultyClient(), SPEC, ReceiverSettings())
    outcome = receiver.run_episode(0, session="s", watcher=Watcher())
    assert outcome.interrupted
    assert not outcome.success
    np.testing.assert_array_equal(robot.commands[-1][:3], 0)


def test_an_interrupt_from_outside_ends_the_episode_with_the_robot_holding():
    interrupt = threading.Event()
    client = FaultyClient(lambda number: interrupt.set() if number == 3 else None)
    robot = NullRobot(periods=10**9, control_rate_hz=200.0)
    outcome = Receiver(robot, client, SPEC, ReceiverSettings(), interrupt=interrupt).run_episode(
        0, session="s"
    )
    assert outcome.interrupted
    np.testing.assert_array_equal(robot.commands[-1][:3], 0)


def test_the_chunk_policy_follows_what_the_policy_was_trained_for():
    assert chunk_policy_for(null_spec(max_prefix=8), None) == "rtc"
    assert chunk_policy_for(null_spec(max_prefix=0), None) == "receding"
    assert chunk_policy_for(null_spec(max_prefix=8), "ensemble") == "ensemble"


def test_the_same_seed_asks_for_the_same_noise_and_another_episode_for_other():
    class Seeds(FaultyClient):
        def __init__(self) -> None:
            super().__init__()
            self.seeds: list[int | None] = []

        def act(self, request: ActRequest) -> ActReply:
            self.seeds.append(request.options.seed)
            return super().act(request)

    def seeds(episode_seed: int) -> list[int | None]:
        client = Seeds()
        robot = NullRobot(periods=60, control_rate_hz=200.0)
        settings = ReceiverSettings(inference_rate_hz=20.0, seed=1, limits=PATIENT)
        Receiver(robot, client, SPEC, settings).run_episode(episode_seed, session="s")
        return client.seeds

    first, again, other = seeds(5), seeds(5), seeds(6)
    shared = min(len(first), len(again))
    assert first[:shared] == again[:shared]
    assert not set(first) & set(other)
