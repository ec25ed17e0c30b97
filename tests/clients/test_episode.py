"""Whole episodes in simulated time: inference of any delay, order and quality beside a control loop."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clients.chunk_buffer import CHUNK_POLICIES
from clients.episode import Episode, EpisodeSettings, PendingRequest
from clients.inprocess import InProcessClient
from clients.robots.null import NullRobot
from clients.safety_limits import SafetyLimits
from policy.errors import TinyVLAError
from policy.null import NullPolicy, null_spec
from service.wire.messages import ActReply

RATE = 80.0
SPEC = null_spec(horizon=48, max_prefix=32)


class SimulatedRun:
    """One episode whose requests take a chosen number of control periods."""

    def __init__(self, chunk_policy: str = "rtc", *, periods: int = 240, stale_after_s: float = 1.0) -> None:
        self.now = 0.0
        self.lines: list[str] = []
        self.robot = NullRobot(periods=periods, clock=lambda: self.now)
        self.client = InProcessClient(NullPolicy(SPEC))
        self.episode = Episode(
            self.robot,
            SPEC,
            EpisodeSettings(
                instruction="go",
                chunk_policy=chunk_policy,  # type: ignore[arg-type]
                limits=SafetyLimits.of(SPEC.action, stale_plan_s=stale_after_s),
                session="test",
                control_rate_hz=RATE,
                seed=1,
            ),
            self.lines.append,
        )

    def ask(self) -> tuple[PendingRequest, ActReply]:
        observation = self.robot.observe()
        assert observation is not None
        pending = self.episode.request(observation, self.now)
        return pending, self.client.act(pending.request)

    def control(self, periods: int = 1) -> None:
        for _ in range(periods):
            self.episode.control_period(self.now)
            self.now += 1 / RATE

    def run(self, delays: list[int], every: int = 16) -> list[tuple[PendingRequest, ActReply]]:
        """Ask every `every` periods; the n-th reply takes `delays[n % len(delays)]`, so they may cross."""
        answered, under_way, asked = [], [], 0
        period = 0
        while not self.robot.done:
            if period % every == 0 and self.episode.wait_until_wanted(0):
                under_way.append((period + delays[asked % len(delays)], *self.ask()))
                asked += 1
            for arrival in [a for a in under_way if a[0] <= period]:
                under_way.remove(arrival)
                self.episode.replied(arrival[1], arrival[2], self.now)
                answered.append(arrival[1:])
            self.control()
            period += 1
        return answered


@settings(deadline=None, max_examples=40)
@given(
    delays=st.lists(st.integers(0, 60), min_size=1, max_size=8), policy=st.sampled_from(["receding", "rtc"])
)
def test_the_robot_gets_exactly_the_actions_that_belong_to_its_steps(delays, policy):
    run = SimulatedRun(policy, stale_after_s=10.0)
    answered = {pending.seq: (pending, reply) for pending, reply in run.run(delays)}
    executed = [record for record in run.episode.trace.steps if record.command is not None]
    assert [record.step for record in executed] == list(range(len(run.robot.executed)))
    for record, sent in zip(executed, run.robot.executed, strict=True):
        pending, reply = answered[record.chunk_seq]
        np.testing.assert_array_equal(sent, reply.actions[record.step - pending.obs_step])
    assert len(run.robot.commands) == 240  # a period without a plan is held, never skipped


@pytest.mark.parametrize("delay", [1, 8, 15, 22])
def test_rtc_sees_its_committed_actions_come_true(delay):
    """The prefix covers the steps that pass, so the seam is continuous: no jump at any border."""
    run = SimulatedRun("rtc")
    answered = run.run([delay], every=max(16, delay + 1))  # one request under way at a time
    steady = [p for p, _ in answered[2:]]
    assert steady
    for pending in steady:
        prefix = pending.request.options.prefix
        assert prefix is not None
        assert delay <= len(prefix) <= SPEC.max_prefix
        np.testing.assert_array_equal(
            np.asarray(run.robot.executed)[pending.obs_step : pending.obs_step + delay], prefix[:delay]
        )
    assert run.episode.trace.held == 0


def test_rtc_commits_to_nothing_that_its_plan_will_be_too_old_for():
    """A slow server: the plan is dropped as stale before it ends, so a reply must not continue its end."""
    run = SimulatedRun("rtc", stale_after_s=0.5, periods=400)
    answered = run.run([30], every=31)  # 375 ms; of each chunk 10 periods are left until it is stale
    steady = [pending for pending, _ in answered[3:]]
    assert len(steady) >= 5
    for pending in steady:
        assert pending.prefix <= 10
    # So every chunk's own actions are executed, not only what it was told to continue.
    own = [
        r.step - p.obs_step - p.prefix
        for p in steady
        for r in run.episode.trace.steps
        if r.chunk_seq == p.seq
    ]
    assert max(own) > 0


def test_a_reply_that_comes_again_much_later_lengthens_no_prefix():
    run = SimulatedRun("rtc")
    answered = run.run([8], every=16)
    before = run.episode.trace.stages["round_trip_ms"].count
    assert run.episode.replied(*answered[0], run.now) == "late"
    assert run.ask()[0].prefix == 8
    assert run.episode.trace.stages["round_trip_ms"].count == before


def test_only_rtc_sends_a_prefix():
    for policy in ("sync", "receding", "ensemble"):
        run = SimulatedRun(policy)
        assert all(pending.prefix == 0 for pending, _ in run.run([4]))


@pytest.mark.parametrize("policy", CHUNK_POLICIES)
def test_holding_before_the_first_chunk_wastes_none_of_its_actions(policy):
    run = SimulatedRun(policy)
    pending, reply = run.ask()
    run.control(30)
    run.episode.replied(pending, reply, run.now)
    run.control(1)
    np.testing.assert_array_equal(run.robot.executed[0], reply.actions[0])
    assert run.episode.trace.waited == 30
    assert run.episode.safety.counts() == {}
    assert np.count_nonzero(run.robot.commands[:30]) == 0


def test_a_robot_whose_server_falls_silent_holds_with_its_gripper_and_goes_on_by_itself():
    run = SimulatedRun("receding")
    pending, reply = run.ask()
    run.episode.replied(pending, reply, run.now)
    run.control(48)
    run.control(20)
    held = np.asarray(run.robot.commands[48:])
    faded = [reply.actions[-1, :3] * share for share in (0.5, 0.25, 0.125, 0.0625)]
    np.testing.assert_allclose(held[:4, :3], faded, rtol=1e-6)
    np.testing.assert_array_equal(held[4:, :3], 0)
    np.testing.assert_array_equal(held[:, 3], reply.actions[-1, 3])
    assert run.episode.safety.counts() == {"starved": {"onsets": 1, "steps": 20}}
    pending, reply = run.ask()
    run.episode.replied(pending, reply, run.now)
    run.control(1)
    np.testing.assert_array_equal(run.robot.executed[-1], reply.actions[0])
    assert run.lines == [
        "safety: holding (starved): no action is planned for this step",
        "safety: starved is over",
    ]


def test_a_plan_that_rests_on_an_old_observation_is_not_followed():
    run = SimulatedRun("receding", stale_after_s=0.255)
    pending, reply = run.ask()
    run.episode.replied(pending, reply, run.now)
    run.control(40)
    assert len(run.robot.executed) == 21  # 0 ... 20 periods of 12.5 ms are at most 0.25 s old
    assert list(run.episode.safety.counts()) == ["stale_observation"]


def test_a_period_that_rests_on_several_things_too_old_is_one_stale_period():
    """A robot whose link is dead: camera and state stand still together."""
    run = SimulatedRun("receding", periods=120)
    robot = run.robot

    def watched() -> None:
        seen = robot.observe()
        assert seen is not None
        old = {name: min(run.now, 0.5) for name in (*robot.info.cameras, "state")}
        run.episode.usable(replace(seen, measured_at=old), run.now)

    for _ in range(16):  # 3.2 s; the limits are 1 s
        pending, reply = run.ask()
        run.episode.replied(pending, reply, run.now)
        watched()
        run.control(16)
    periods = {cause: count["steps"] for cause, count in run.episode.safety.counts().items()}
    assert periods["stale_camera"] == periods["stale_state"] > 100
    assert run.episode.trace.stale == periods["stale_state"]


def test_a_stale_plan_is_blamed_on_a_server_that_does_not_answer():
    run = SimulatedRun("receding", stale_after_s=0.25)
    pending, reply = run.ask()
    run.episode.replied(pending, reply, run.now)
    pending, _ = run.ask()
    run.episode.failed(pending, ConnectionError("gone"), run.now)
    run.control(40)
    assert list(run.episode.safety.counts()) == ["stale_server"]
    assert run.episode.trace.outcomes == {"accepted": 1, "connection": 1}
    assert run.lines[0] == "inference: no reply (connection): gone"


@pytest.mark.parametrize(
    "spoilt",
    [
        {"actions": np.full((48, 4), np.nan, np.float32)},
        {"actions": np.zeros((48, 3), np.float32)},
        {"actions": np.zeros((0, 4), np.float32)},
        {"seq": 77},
        {"session": "somebody else"},
    ],
)
def test_a_corrupted_reply_never_reaches_the_robot(spoilt):
    run = SimulatedRun("receding")
    pending, reply = run.ask()
    assert run.episode.replied(pending, replace(reply, **spoilt), run.now) == "unusable"
    run.control(5)
    assert run.robot.executed == []
    assert run.episode.trace.outcomes == {"unusable": 1}


def test_an_uncertainty_that_is_no_number_is_no_measurement():
    run = SimulatedRun("receding")
    pending, reply = run.ask()
    unsure = replace(reply, uncertainty=np.full(48, np.nan, np.float32))
    assert run.episode.replied(pending, unsure, run.now) == "accepted"
    assert run.episode.trace.stages["uncertainty"].summary() is None  # which a report could not hold


def test_failures_are_told_once_and_their_end_too():
    run = SimulatedRun("receding")
    for _ in range(5):
        pending, reply = run.ask()
        run.episode.failed(pending, TinyVLAError("overloaded", "try again"), run.now)
    run.episode.replied(pending, reply, run.now)
    assert run.lines == ["inference: no reply (overloaded): try again", "inference: replies come again"]


def test_commands_stay_within_the_bounds_of_the_contract():
    run = SimulatedRun("receding")
    pending, reply = run.ask()
    run.episode.replied(pending, replace(reply, actions=reply.actions * 5), run.now)
    run.control(48)
    assert np.abs(run.robot.commands).max() == 1.0
    assert run.episode.safety.counts()["bounds"]["onsets"] >= 1


def test_a_chunk_is_followed_for_a_period_before_the_next_is_asked_for():
    run = SimulatedRun("receding")
    assert run.episode.wait_until_wanted(0)
    pending, reply = run.ask()
    run.episode.replied(pending, reply, run.now)
    assert not run.episode.wait_until_wanted(0)
    run.control(1)
    assert run.episode.wait_until_wanted(0)


def test_sync_waits_with_the_robot_holding_and_calls_that_no_fault():
    run = SimulatedRun("sync", periods=200)
    run.run([8], every=1)
    assert run.episode.trace.waited >= 8 * 8
    assert run.episode.safety.counts() == {}
    commands = np.asarray([record.command is not None for record in run.episode.trace.steps])
    # 16 executed, then held while the reply is on its way, over and over.
    assert commands[8:24].all()
    assert not commands[25:31].any()
