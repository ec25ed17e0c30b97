"""Every fault for a tenth of a second to ten, in a running episode: nothing unsafe, it resumes, the report names it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from clients.episode import Episode
from clients.episode_settings import ReceiverSettings, episode_settings, safety_limits
from clients.exchange import PendingRequest
from clients.inprocess import InProcessClient
from clients.simulated_time import SimulatedClock, run_simulated
from policy.errors import TinyVLAError
from policy.null import NullPolicy
from service.wire import msgpack_codec
from service.wire.messages import ActReply, ActRequest
from tests.faults.checking_robot import LIMITS_TOML, RATE, SPEC, CheckingRobot

# When the fault begins, and how long the episode goes on after it.
BEGINS_S, AFTER_S = 2.0, 3.0
# A robot that is well again acts on what it sees within this time: a look, a request and its delay.
RESUMES_S = 1.0
DELAY_S = 0.05
DURATIONS = (0.1, 1.0, 10.0)


@dataclass
class Run:
    """One episode, with what is broken at the moment."""

    robot: CheckingRobot
    clock: SimulatedClock
    client: FaultyClient
    extra_delay_s: float = 0.0
    repeat: bool = False  # every reply so far arrives again and again
    reorder: bool = False  # every other reply arrives after the one behind it


class Delivery:
    """Between an episode and its replies: the way on which they are repeated and overtake each other."""

    def __init__(self, run: Run, episode: Episode) -> None:
        self._run = run
        self._replied, self._failed = episode.replied, episode.failed
        self._delivered: list[tuple[PendingRequest, ActReply]] = []
        self._overtaken: tuple[PendingRequest, ActReply] | None = None
        episode.replied = self.replied  # type: ignore[method-assign]

    def replied(self, pending: PendingRequest, reply: ActReply, now: float) -> str:
        if self._run.reorder and self._overtaken is None:
            self._overtaken = (pending, reply)
            self._failed(pending, ConnectionError("timed out"), now)
            return "connection"
        verdict = self._replied(pending, reply, now)
        self._delivered.append((pending, reply))
        if self._overtaken is not None:
            assert self._replied(*self._overtaken, now) == "late"
            self._overtaken = None
        return verdict

    def each_period(self, now: float) -> None:
        if self._run.repeat:
            for pending, reply in self._delivered[-3:]:
                assert self._replied(pending, reply, now) != "accepted"


class FaultyClient(InProcessClient):
    """Its replies pass through a network that may damage them."""

    def __init__(self) -> None:
        super().__init__(NullPolicy(SPEC))
        self.spoil: Callable[[ActReply], ActReply] | None = None

    def act(self, request: ActRequest) -> ActReply:
        reply = super().act(request)
        return reply if self.spoil is None else self.spoil(reply)


def lose(reply: ActReply) -> ActReply:
    raise ConnectionError("no route to host")


def refuse(reply: ActReply) -> ActReply:
    raise TinyVLAError("overloaded", "try again")


def with_nan(reply: ActReply) -> ActReply:
    return replace(reply, actions=np.full_like(reply.actions, np.nan))


def cut_short(reply: ActReply) -> ActReply:
    return replace(reply, actions=reply.actions[:, :2])


def far_too_large(reply: ActReply) -> ActReply:
    return replace(reply, actions=reply.actions * np.float32(1e30))


def of_another_request(reply: ActReply) -> ActReply:
    assert reply.seq is not None
    return replace(reply, seq=reply.seq - 1)


def flip_bits(reply: ActReply) -> ActReply:
    """On the wire: whatever byte is hit, the codec refuses it, or the layers behind it cope."""
    wire = bytearray(msgpack_codec.encode_reply(reply))
    rng = np.random.default_rng(reply.seed)
    for place in rng.integers(0, len(wire), 20):
        wire[place] ^= 1 << int(rng.integers(8))
    try:
        return msgpack_codec.decode_reply(bytes(wire))
    except TinyVLAError as error:  # as the clients do
        raise ConnectionError(str(error)) from None


@dataclass(frozen=True)
class Fault:
    """How to break something, and by what name the report knows it once it matters."""

    begin: Callable[[Run, float], None]  # told for how long
    end: Callable[[Run], None]
    names: tuple[str, ...]  # one of them appears
    from_s: float  # shortest duration that matters; shorter ones may pass unnoticed


def part(attribute: str, name: str, from_s: float) -> Fault:
    """A part of the robot."""
    return Fault(
        lambda run, seconds: setattr(run.robot, attribute, True),
        lambda run: setattr(run.robot, attribute, False),
        (name,),
        from_s,
    )


def network(spoil: Callable[[ActReply], ActReply], *names: str, from_s: float = 0.4) -> Fault:
    """What happens to replies; at five a second one of them falls into 0.4 s whatever its phase."""

    def begin(run: Run, seconds: float) -> None:
        run.client.spoil = spoil

    def end(run: Run) -> None:
        run.client.spoil = None

    return Fault(begin, end, names, from_s)


def delay(run: Run, seconds: float) -> None:
    run.extra_delay_s = seconds


FAULTS: dict[str, Fault] = {
    "camera frozen": part("frozen_camera", "stale_camera", 1.0),
    "NaN state": part("nan_state", "bad_state", 0.4),
    "sensor silent": part("silent_sensor", "stale_sensor", 0.4),
    "robot silent": part("silent", "stale_observation", 0.4),
    "replies delayed": Fault(delay, lambda run: setattr(run, "extra_delay_s", 0.0), ("stale_server",), 1.0),
    "replies repeated": Fault(
        lambda run, seconds: setattr(run, "repeat", True),
        lambda run: setattr(run, "repeat", False),
        ("late",),
        0.1,
    ),
    "replies reordered": Fault(
        lambda run, seconds: setattr(run, "reorder", True),
        lambda run: setattr(run, "reorder", False),
        ("late",),
        1.0,
    ),
    "replies lost": network(lose, "connection"),
    "server overloaded": network(refuse, "overloaded"),
    "replies hold NaN": network(with_nan, "unusable"),
    "replies cut short": network(cut_short, "unusable"),
    "replies far too large": network(far_too_large, "bounds"),
    "replies to another request": network(of_another_request, "unusable"),
    "replies with flipped bits": network(flip_bits, "connection", "unusable", "bounds", from_s=1.0),
}


@pytest.fixture(scope="module")
def limits_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("limits") / "limits.toml"
    path.write_text(LIMITS_TOML)
    return path


def run_with(fault: Fault, seconds: float, limits_file: Path) -> tuple[Run, Episode]:
    clock = SimulatedClock()
    periods = round((BEGINS_S + seconds + AFTER_S) * RATE)
    run = Run(CheckingRobot(periods=periods, clock=clock), clock, FaultyClient())
    limits = safety_limits(SPEC, 5.0, file=limits_file)
    asked = ReceiverSettings(limits=limits, seed=1)
    episode = Episode(run.robot, SPEC, episode_settings(run.robot.info, SPEC, asked, 1, "s"))

    delivery = Delivery(run, episode)

    def each_period(period: int) -> None:
        delivery.each_period(clock.now)
        if period == round(BEGINS_S * RATE):
            fault.begin(run, seconds)
        if period == round((BEGINS_S + seconds) * RATE):
            fault.end(run)

    run_simulated(
        run.robot, run.client, episode, clock,
        delay_s=lambda request: DELAY_S + run.extra_delay_s, each_period=each_period,
    )  # fmt: skip
    return run, episode


def test_without_a_fault_nothing_but_the_limits_intervenes(limits_file):
    run, episode = run_with(Fault(lambda *a: None, lambda *a: None, (), 0), 1.0, limits_file)
    assert run.robot.unsafe == []
    assert set(episode.safety.counts()) <= {"bounds", "max_per_step", "max_per_second", "workspace"}
    assert set(episode.trace.outcomes) == {"accepted"}
    assert episode.trace.held == 0


@pytest.mark.parametrize("seconds", DURATIONS)
@pytest.mark.parametrize("name", FAULTS)
def test_nothing_unsafe_is_sent_control_resumes_and_the_report_names_it(name, seconds, limits_file):
    fault = FAULTS[name]
    run, episode = run_with(fault, seconds, limits_file)
    assert run.robot.unsafe == []
    assert len(run.robot.commands) == len(episode.trace.steps)  # a command in every period

    ended = BEGINS_S + seconds
    # A reply that was asked for during the fault may be under way as long again.
    resumes = ended + RESUMES_S + (seconds if name == "replies delayed" else 0.0)
    captured = {request.seq: request.captured_at for request in episode.trace.requests}
    resumed = [
        record.at
        for record in episode.trace.steps
        if record.command is not None and captured[record.chunk_seq] >= ended
    ]
    if resumes < BEGINS_S + seconds + AFTER_S:
        assert resumed
        assert resumed[0] <= resumes
        late = [record for record in episode.trace.steps if record.at > resumes]
        assert all(record.command is not None for record in late)

    named = set(episode.safety.counts()) | set(episode.trace.outcomes)
    if seconds >= fault.from_s:
        assert named & set(fault.names)
    # And it is over: nothing but the limits is active at the end.
    active = {cause for cause, seen in episode.safety.interventions.items() if seen.active}
    if resumes < BEGINS_S + seconds + AFTER_S:
        assert active <= {"bounds", "max_per_step", "max_per_second", "workspace"}


def test_a_robot_that_has_nothing_to_go_by_for_long_stands_still(limits_file):
    for name in ("camera frozen", "NaN state", "sensor silent", "robot silent", "replies lost"):
        run, _ = run_with(FAULTS[name], 10.0, limits_file)
        start = round((BEGINS_S + 3.0) * RATE)
        still = np.asarray(run.robot.commands[start : round((BEGINS_S + 10.0) * RATE)])
        assert np.abs(still[:, :3]).max() == 0, name
        assert (still[:, 3] == still[0, 3]).all()  # and does not drop what it holds


def test_the_checking_robot_would_notice():
    clock = SimulatedClock()
    robot = CheckingRobot(clock=clock)
    for command, told in [
        ([np.nan, 0, 0, 0], "not finite"),
        ([0.95, 0, 0, 0], "bounds"),
        ([0.6, 0, 0, 0], "a step"),
        ([0.4, 0.4, 0, 0], "workspace"),
    ]:
        robot.reset(0)
        robot.unsafe.clear()
        for _ in range(3):
            robot.act(np.array(command, np.float32))
        assert any(told in line for line in robot.unsafe), told
    robot.reset(0)
    robot.unsafe.clear()
    clock.now = 10.0
    for number in range(40):
        clock.now += 1 / RATE
        robot.act(np.array([0.4 * (-1) ** number, 0, 0, 0], np.float32))
    assert any("a second" in line for line in robot.unsafe)
