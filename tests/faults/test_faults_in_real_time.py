"""Faults of servers, networks, clocks and disks, with real processes, sockets and threads, in a running episode."""

from __future__ import annotations

import contextlib
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from clients.client_options import ClientOptions
from clients.connect import connect
from clients.demo import free_ports, wait_until_ready
from clients.episode import Episode
from clients.episode_settings import ReceiverSettings, safety_limits
from clients.receiver import EpisodeOutcome, Receiver
from clients.recording import Recorder
from clients.retry import NEVER
from clients.robots.base import Robot
from clients.tapped_robot import TappedRobot
from policy.null import NullPolicy, null_spec
from policy.spec import PolicySpec
from service.running import RunningServer
from tests.faults.checking_robot import LIMITS_TOML, CheckingRobot
from tests.faults.tcp_proxy import Mode, TcpProxy

ROOT = Path(__file__).resolve().parents[2]
# Nothing here takes nearly as long, whatever else the machine does.
PATIENCE_S = 120.0
SPEC = null_spec()

pytestmark = pytest.mark.slow


class Server:
    """A policy server in a process of its own, on fixed ports, that can be killed and started again."""

    def __init__(self, log: Path) -> None:
        self.http_port, self.zmq_port = free_ports(2)
        self._log = log
        self.start()

    def start(self) -> None:
        ports = ["--port", str(self.http_port), "--zmq-port", str(self.zmq_port)]
        with self._log.open("a") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tinyvla", "serve", "--null", *ports],
                cwd=ROOT, stdout=output, stderr=output,
            )  # fmt: skip

    def wait_until_ready(self) -> None:
        wait_until_ready(self.process, f"http://127.0.0.1:{self.http_port}", self._log)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@dataclass
class Script:
    """Begins a fault in a running episode, ends it, and waits until the robot acts on what it has seen since.

    A `Watcher`: called ten times a second by the receiver, on the caller's thread.
    """

    begin: Callable[[], None]
    end: Callable[[], None]
    seconds: float
    done: threading.Event
    began_at: float | None = None
    ended_at: float | None = None
    resumed: bool = False
    started_at: float = field(default_factory=time.monotonic)

    def watch(self, episode: Episode, elapsed_s: float) -> None:
        now = time.monotonic()
        if self.began_at is None:
            if episode.trace.executed and episode.trace.outcomes.get("accepted", 0) >= 3:
                self.begin()
                self.began_at = now
        elif self.ended_at is None:
            if now - self.began_at >= self.seconds:
                self.end()
                self.ended_at = time.monotonic()
        else:
            captured = {request.seq: request.captured_at for request in list(episode.trace.requests)}
            newest = next((r for r in reversed(list(episode.trace.steps)) if r.command is not None), None)
            self.resumed = newest is not None and captured.get(newest.chunk_seq, 0.0) > self.ended_at
        if self.resumed or now - self.started_at > PATIENCE_S:
            self.done.set()


@dataclass(frozen=True)
class Ran:
    outcome: EpisodeOutcome
    robot: CheckingRobot
    lines: list[str]

    @property
    def named(self) -> set[str]:
        """Everything that the report has a name for."""
        return set(self.outcome.safety) | set(self.outcome.trace.outcomes)


def run_through(
    url: str,
    begin: Callable[[], None],
    end: Callable[[], None],
    seconds: float,
    limits_file: Path,
    *,
    wrap: Callable[[Robot], Robot] = lambda robot: robot,
) -> Ran:
    """An episode with one fault in it; everything that must hold after any of them is asserted here."""
    robot = CheckingRobot(clock=time.monotonic, second_s=0.8)
    done, lines = threading.Event(), list[str]()
    script = Script(begin, end, seconds, done)
    client = connect(url, options=ClientOptions(timeout_s=1.0, retry=NEVER))
    try:
        spec: PolicySpec = client.spec()
        asked = ReceiverSettings(inference_rate_hz=10.0, limits=safety_limits(spec, 10.0, file=limits_file))
        receiver = Receiver(wrap(robot), client, spec, asked, lines.append, interrupt=done)
        outcome = receiver.run_episode(0, session="s", watcher=script)
    finally:
        client.close()
    assert robot.unsafe == []
    assert script.resumed, f"control did not resume: {lines}"
    np.testing.assert_array_equal(robot.commands[-1][:3], 0)  # left holding
    return Ran(outcome, robot, lines)


@pytest.fixture(scope="module")
def limits_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("limits") / "limits.toml"
    path.write_text(LIMITS_TOML)
    return path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("server") / "log")
    try:
        made.wait_until_ready()
        yield made
    finally:
        made.kill()


@pytest.mark.parametrize("transport", ["http", "zmq"])
def test_a_server_that_is_killed_and_started_again(server, transport, limits_file):
    url = (
        f"http://127.0.0.1:{server.http_port}"
        if transport == "http"
        else f"tcp://127.0.0.1:{server.zmq_port}"
    )
    ran = run_through(url, server.kill, server.start, 1.5, limits_file)  # longer than a client waits
    assert {"connection"} <= ran.named
    assert {"stale_server", "starved"} & ran.named  # and than a chunk lasts
    assert any("no reply (connection)" in line for line in ran.lines)
    assert any("replies come again" in line for line in ran.lines)


@pytest.mark.parametrize("transport", ["http", "zmq"])
@pytest.mark.parametrize(
    ("mode", "seconds", "names"),
    [
        ("stall", 0.1, set()),  # shorter than the robot would notice
        ("stall", 1.5, {"connection", "starved", "stale_server"}),
        ("cut", 0.1, set()),
        ("cut", 1.5, {"connection", "starved", "stale_server"}),
        ("damage", 1.5, set()),
    ],
)
def test_a_network_that_is_cut_stalled_or_damaged(server, transport, mode: Mode, seconds, names, limits_file):
    with TcpProxy(server.http_port if transport == "http" else server.zmq_port) as proxy:
        scheme = "http" if transport == "http" else "tcp"
        ran = run_through(
            f"{scheme}://127.0.0.1:{proxy.port}",
            lambda: proxy.set_mode(mode),
            lambda: proxy.set_mode("pass"),
            seconds,
            limits_file,
        )
    assert names <= ran.named
    if mode == "damage":  # some bits make a reply unreadable, some make its numbers wrong
        assert ran.named - {"accepted"}


@pytest.mark.parametrize("step_s", [3600.0, -3600.0])
def test_a_clock_that_is_stepped_by_an_hour_changes_nothing(monkeypatch, step_s, limits_file):
    """Of the robot's side and of the server's: both are in this process."""
    offset = [0.0]
    real, real_ns = time.time, time.time_ns
    monkeypatch.setattr(time, "time", lambda: real() + offset[0])
    monkeypatch.setattr(time, "time_ns", lambda: real_ns() + int(offset[0] * 1e9))

    def step() -> None:
        offset[0] = step_s

    def back() -> None:
        offset[0] = 0.0

    with RunningServer(lambda: NullPolicy(SPEC)) as running:
        ran = run_through(running.http_url, step, back, 1.0, limits_file)
    assert not {"connection", "stale_server", "stale_observation", "deadline_exceeded", "spent"} & ran.named


def test_a_disk_that_fills_up_while_recording_stops_the_recording_only(tmp_path, limits_file):
    lines: list[str] = []
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))

    def make_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    with (
        contextlib.ExitStack() as stack,
        RunningServer(lambda: NullPolicy(SPEC)) as running,
        Recorder(tmp_path / "data", SPEC, lines.append) as recorder,
    ):
        stack.callback(make_room)
        ran = run_through(
            running.http_url,
            fill,
            make_room,
            1.5,
            limits_file,
            wrap=lambda robot: TappedRobot(robot, [recorder]),
        )
        recorder.ended(ran.outcome)
    [told] = [line for line in lines if "recording stopped" in line]
    assert "File too large" in told
    assert not {"stale_server", "stale_observation", "watchdog"} & ran.named
