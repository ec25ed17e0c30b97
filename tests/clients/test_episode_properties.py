"""Whatever order, delay, duplication, damage or loss of replies: every action once, in place, never from the past."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from clients.chunk_buffer import CHUNK_POLICIES, ChunkPolicy
from clients.episode import Episode
from clients.episode_settings import ReceiverSettings, episode_settings
from clients.exchange import PendingRequest
from clients.inprocess import InProcessClient
from clients.robots.null import NullRobot
from clients.safety_limits import SafetyLimits
from policy.null import NullPolicy, null_spec
from service.wire.messages import ActReply

RATE = 80.0
SPEC = null_spec(horizon=12, max_prefix=8)
LIMITS = replace(SafetyLimits.of(SPEC.action, stale_plan_s=0.4), stale_camera_s=600.0, stale_state_s=600.0)


class AnythingMayHappen(RuleBasedStateMachine):
    """The receiver's calls in any order that threads and a network could make of them."""

    @initialize(policy=st.sampled_from(CHUNK_POLICIES))
    def begin(self, policy: ChunkPolicy) -> None:
        self.now = 0.0
        self.robot = NullRobot(periods=10**9, clock=lambda: self.now)
        self.client = InProcessClient(NullPolicy(SPEC))
        asked = ReceiverSettings(chunk_policy=policy, limits=LIMITS, seed=1)
        self.episode = Episode(self.robot, SPEC, episode_settings(self.robot.info, SPEC, asked, 1, "s"))
        self.policy = policy
        self.under_way: list[tuple[PendingRequest, ActReply]] = []
        self.answered: list[tuple[PendingRequest, ActReply]] = []
        self.taken: dict[int, tuple[PendingRequest, ActReply]] = {}  # seq -> what was accepted

    def _offer(self, pending: PendingRequest, reply: ActReply) -> str:
        verdict = self.episode.replied(pending, reply, self.now)
        if verdict == "accepted":
            assert pending.seq not in self.taken  # nothing is taken twice
            assert all(pending.captured_at >= other.captured_at for other, _ in self.taken.values())
            self.taken[pending.seq] = (pending, reply)
        return verdict

    @rule(periods=st.integers(1, 15))
    def control(self, periods: int) -> None:
        for _ in range(periods):
            self.episode.control_period(self.now)
            self.now += 1 / RATE

    @rule()
    def ask(self) -> None:
        observation = self.robot.observe()
        assert observation is not None
        assert self.episode.usable(observation, self.now)
        pending = self.episode.request(observation, self.now)
        self.under_way.append((pending, self.client.act(pending.request)))

    @rule(which=st.integers(0, 9))
    def answer(self, which: int) -> None:
        if self.under_way:
            self.answered.append(self.under_way.pop(which % len(self.under_way)))
            self._offer(*self.answered[-1])

    @rule(which=st.integers(0, 9))
    def answer_again(self, which: int) -> None:
        if self.answered:
            assert self._offer(*self.answered[which % len(self.answered)]) != "accepted"

    @rule(which=st.integers(0, 9))
    def lose(self, which: int) -> None:
        if self.under_way:
            pending, _ = self.under_way.pop(which % len(self.under_way))
            self.episode.failed(pending, ConnectionError("lost"), self.now)

    @rule(which=st.integers(0, 9), value=st.sampled_from([np.nan, np.inf]))
    def damage(self, which: int, value: float) -> None:
        if self.under_way:
            pending, reply = self.under_way.pop(which % len(self.under_way))
            actions = reply.actions.copy()
            actions[which, 1] = value
            assert self._offer(pending, replace(reply, actions=actions)) == "unusable"

    @rule(which=st.integers(0, 9))
    def mix_up(self, which: int) -> None:
        """The reply to one request arrives as that to another."""
        if len(self.under_way) > 1:
            pending, _ = self.under_way[which % len(self.under_way)]
            _, reply = self.under_way[(which + 1) % len(self.under_way)]
            assert self._offer(pending, reply) == "unusable"

    @rule(periods=st.integers(1, 5))
    def watchdog(self, periods: int) -> None:
        for _ in range(periods):
            assert self.episode.take_over(self.now, 1.0)
            self.now += 1 / RATE

    @invariant()
    def every_action_was_executed_once_and_in_its_place(self) -> None:
        if not hasattr(self, "robot"):
            return
        records = [record for record in self.episode.trace.steps if record.command is not None]
        assert [record.step for record in records] == list(range(len(self.robot.executed)))
        newest = [record.chunk_seq for record in records]
        assert newest == sorted(newest)  # never back to an older observation
        for record, sent in zip(records, self.robot.executed, strict=True):
            pending, reply = self.taken[record.chunk_seq]
            own = reply.actions[record.step - pending.obs_step]
            if self.policy == "ensemble":  # an average of the chunks that cover the step
                covering = [r.actions[record.step - p.obs_step] for p, r in self._covering(record.step)]
                assert (sent >= np.min(covering, axis=0) - 1e-6).all()
                assert (sent <= np.max(covering, axis=0) + 1e-6).all()
            else:
                np.testing.assert_array_equal(sent, own)
            assert record.at - pending.captured_at <= LIMITS.stale_plan_s

    def _covering(self, step: int) -> list[tuple[PendingRequest, ActReply]]:
        return [
            (pending, reply)
            for pending, reply in self.taken.values()
            if 0 <= step - pending.obs_step < len(reply.actions)
        ]

    @invariant()
    def nothing_unsafe_was_sent(self) -> None:
        if hasattr(self, "robot") and self.robot.commands:
            sent = np.asarray(self.robot.commands)
            assert np.isfinite(sent).all()
            assert (np.abs(sent) <= 1).all()


AnythingMayHappen.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestAnythingMayHappen = AnythingMayHappen.TestCase
