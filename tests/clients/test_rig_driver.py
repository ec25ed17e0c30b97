"""The driver against a rig of sockets: garbage is counted, never fatal, and the arm holds when anything is stale."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import zmq
from PIL import Image

from clients.observation_guard import ObservationGuard
from clients.robots.base import Haltable, Reporting, Robot, RobotObservation
from clients.robots.needle_rig import NeedleRig
from clients.robots.needle_rig_clock import AGREEING
from clients.robots.needle_rig_config import DEFAULT_FILE, RigConfig, load_config
from clients.robots.needle_rig_contract import SENSOR, SENSOR_CHANNELS, SENSOR_WINDOW, rig_spec
from clients.robots.rig_wire import (
    STATE_TOPIC,
    CameraFrame,
    Command,
    RobotState,
    SensorRecords,
    decode_command,
    encode_camera,
    encode_sensor,
    encode_state,
)
from clients.robots.rig_wire_status import STATUS_TOPIC, RigStatus, encode_status
from clients.safety_limits import SafetyLimits
from policy.errors import UsageError

AHEAD = 3.0
PATIENCE_S = 20.0  # a loaded machine is no failure


def jpeg() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (16, 9), (10, 200, 30)).save(out, "JPEG")
    return out.getvalue()


class SocketRig:
    """Says what a rig says, 3 s ahead of this machine's clock, on a thread of its own."""

    def __init__(self) -> None:
        self.context = zmq.Context()
        self.publisher = self.context.socket(zmq.PUB)
        self.state_port = self.publisher.bind_to_random_port("tcp://127.0.0.1")
        self.puller = self.context.socket(zmq.PULL)
        self.command_port = self.puller.bind_to_random_port("tcp://127.0.0.1")
        self.commands: list[Command] = []
        self.status: RigStatus | None = None
        self.silent: set[str] = set()
        self.ahead = AHEAD
        self.extra: Callable[[], None] = lambda: None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def serve(self, camera_port: int, sensor_port: int, cameras: list[str]) -> None:
        self.cameras, self.sensor_port = cameras, sensor_port
        self.pusher = self.context.socket(zmq.PUSH)
        self.pusher.connect(f"tcp://127.0.0.1:{camera_port}")
        self.datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._thread.start()

    def now(self) -> float:
        return time.time() + self.ahead

    def send_picture(self, camera: str, picture: bytes, at: float | None = None) -> None:
        at = self.now() if at is None else at
        self.pusher.send_multipart(encode_camera(CameraFrame(camera, at, picture, self.now())))

    def send_samples(self, times: np.ndarray, sender: socket.socket | None = None) -> None:
        records = SensorRecords(
            times, np.full(len(times), self.now()), np.zeros((len(times), SENSOR_CHANNELS), np.float32)
        )
        (sender or self.datagrams).sendto(encode_sensor(records), ("127.0.0.1", self.sensor_port))

    def close(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
            self.datagrams.close()
        self.context.destroy(linger=0)

    def _run(self) -> None:
        picture, sampled, ticks = jpeg(), time.time(), 0
        while not self._stop.wait(0.01):
            ticks += 1
            while self.puller.poll(0):
                self.commands.append(decode_command(self.puller.recv()))
            if "state" not in self.silent:
                self.publisher.send_multipart(
                    encode_state(RobotState(self.now(), self.now(), 0.0, (1,) * 6, (2,) * 6))
                )
            if self.status is not None:
                self.publisher.send_multipart(encode_status(self.status))
            due = int((time.time() - sampled) * 650)
            while due >= 13:
                if "sensor" not in self.silent:
                    self.send_samples(sampled + self.ahead + np.arange(13) / 650)
                sampled, due = sampled + 13 / 650, due - 13
            if ticks % 20 == 0:
                for camera in self.cameras:
                    if camera not in self.silent:
                        self.send_picture(camera, picture)
            self.extra()


@pytest.fixture
def rig() -> Iterator[SocketRig]:
    made = SocketRig()
    yield made
    made.close()


def config_for(rig: SocketRig, **episode: object) -> RigConfig:
    told = load_config().model_dump()
    told["ports"] = {"cameras": 0, "state": rig.state_port, "sensor": 0, "commands": rig.command_port}
    # Long enough that a loaded machine is not taken for a silent rig.
    told["stale_after"] = {"cameras": 3.0, "state": 1.5, "sensor": 1.5}
    told["episode"] |= {"ready_within": PATIENCE_S, **episode}
    return RigConfig.model_validate(told)


@pytest.fixture
def driver(rig: SocketRig) -> Iterator[NeedleRig]:
    lines: list[str] = []
    made = NeedleRig(config_for(rig), log=lines.append)
    made.lines = lines  # type: ignore[attr-defined]
    rig.serve(made.link.camera_port, made.link.sensor_port, list(load_config().cameras.values()))
    yield made
    made.close()


def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def counts(driver: NeedleRig) -> dict[str, int]:
    return driver.episode_report()["counts"]


def test_the_driver_is_a_robot(driver: NeedleRig) -> None:
    robot: Robot = driver
    assert robot.info.sensors == (SENSOR,)
    assert len(robot.info.cameras) == 5
    assert isinstance(driver, Reporting)


def test_reset_starts_the_rig_and_waits_until_everything_is_there(rig: SocketRig, driver: NeedleRig) -> None:
    driver.reset(7)
    assert [c.cmd for c in rig.commands] == ["stop", "start"]
    assert rig.commands[-1].seed == 7
    seen = driver.observe()
    assert seen is not None
    assert seen.control_step == 0
    assert set(seen.images) == set(driver.info.cameras)
    np.testing.assert_allclose(seen.state, [2] * 6 + [1] * 6)
    assert len(seen.sensors[SENSOR]) > SENSOR_WINDOW - 20
    # Captured a moment ago on our clock, though the rig's is 3 s ahead.
    assert 0 <= time.monotonic() - seen.captured_at < 2.5


def test_observations_are_new_and_know_the_control_step_they_were_made_at(driver: NeedleRig) -> None:
    driver.reset(0)
    first = driver.observe()
    for _ in range(5):
        driver.act(np.zeros(6, np.float32))
    acted = time.monotonic()
    assert first is not None
    found = []
    until(lambda: found.append(driver.observe()) or (found[-1] and found[-1].captured_at > acted))
    newest = found[-1]
    assert newest is not None
    assert newest.captured_at > first.captured_at
    assert (first.control_step, newest.control_step) == (0, 5)


def test_two_threads_may_each_see_the_same_pictures(rig: SocketRig, driver: NeedleRig) -> None:
    driver.reset(0)
    until(lambda: driver.observe() is not None)
    rig.silent.update(rig.cameras)  # nothing new comes any more
    until(lambda: driver.observe() is None)
    seen: list[RobotObservation | None] = []
    other = threading.Thread(target=lambda: seen.append(driver.observe()))
    other.start()
    other.join()
    assert seen[0] is not None


def test_actions_and_holds_travel_as_deltas(rig: SocketRig, driver: NeedleRig) -> None:
    driver.reset(0)
    driver.act(np.array([0.01, 0, -0.02, 0, 0, 0.03], np.float32))
    driver.hold(np.zeros(6, np.float32))
    until(lambda: len(rig.commands) >= 4)
    sent = [command.vector for command in rig.commands[2:]]
    assert sent[0] == pytest.approx((0.01, 0, -0.02, 0, 0, 0.03))
    assert sent[1] == (0,) * 6


@pytest.mark.parametrize("stream", ["state", "sensor", "OAK"])
def test_the_arm_holds_while_a_stream_is_stale_and_goes_on_after(
    rig: SocketRig, driver: NeedleRig, stream: str
) -> None:
    driver.reset(0)
    rig.silent.add(stream)
    forward = np.full(6, 0.05, np.float32)

    def holding() -> bool:
        driver.act(forward)
        time.sleep(0.02)
        return driver.held_steps > 2

    until(holding)
    assert driver.observe() is None
    until(lambda: rig.commands[-1].vector == (0,) * 6)
    assert any("holding" in line for line in driver.lines)  # type: ignore[attr-defined]
    rig.silent.clear()
    until(lambda: driver.observe() is not None)
    held = driver.held_steps
    driver.act(forward)
    assert driver.held_steps == held


def test_the_arm_holds_while_everything_seems_late_and_moves_after_the_next_start(
    rig: SocketRig, driver: NeedleRig
) -> None:
    driver.reset(0)
    rig.ahead -= 100.0  # messages that are late by that much say the same
    until(lambda: counts(driver).get("view5: time", 0) > 2 * AGREEING)
    forward = np.full(6, 0.05, np.float32)
    driver.act(forward)
    assert driver.held_steps == 1
    assert driver.observe() is None
    driver.reset(0)
    until(lambda: driver.observe() is not None)
    driver.act(forward)
    assert driver.held_steps == 0


def test_without_a_sensor_the_arm_moves_only_where_that_was_configured(rig: SocketRig) -> None:
    driver = NeedleRig(config_for(rig, needs_sensor=False), log=lambda line: None)
    spec = rig_spec()
    try:
        rig.silent.add("sensor")
        rig.serve(driver.link.camera_port, driver.link.sensor_port, list(load_config().cameras.values()))
        driver.reset(0)
        until(lambda: (seen := driver.observe()) is not None and SENSOR not in seen.sensors)
        seen = driver.observe()
        assert seen is not None
        guard = ObservationGuard(
            spec, SafetyLimits.of(spec.action), driver.info.sensors, 0.0, driver.info.may_be_silent
        )
        assert guard.look(seen, seen.captured_at)
        driver.act(np.full(6, 0.05, np.float32))
        assert driver.held_steps == 0
    finally:
        driver.close()


def test_the_watchdog_can_stop_the_arm_beside_the_control_thread(rig: SocketRig, driver: NeedleRig) -> None:
    assert isinstance(driver, Haltable)
    driver.reset(0)
    threading.Thread(target=driver.halt).start()
    until(lambda: rig.commands[-1].cmd == "stop" and len(rig.commands) > 2)


def test_an_action_that_is_no_number_is_not_sent(rig: SocketRig, driver: NeedleRig) -> None:
    driver.reset(0)
    driver.act(np.full(6, np.nan, np.float32))
    driver.hold(np.full(6, np.inf, np.float32))
    until(lambda: len(rig.commands) >= 4)
    assert [c.vector for c in rig.commands[2:]] == [(0,) * 6] * 2


def test_garbage_on_every_socket_is_counted_and_nothing_else(rig: SocketRig, driver: NeedleRig) -> None:
    driver.reset(0)
    rng = np.random.default_rng(0)
    stranger = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def garbage() -> None:
        noise = rng.bytes(int(rng.integers(0, 300)))
        rig.pusher.send_multipart([noise])
        rig.pusher.send_multipart([noise, noise])
        rig.pusher.send_multipart([noise] * 5)
        rig.send_picture("OAK", b"\xff\xd8\xff" + noise)
        rig.send_picture("SOMEBODY_ELSE", jpeg())
        rig.send_picture("OAK", jpeg(), at=5.0)
        rig.publisher.send_multipart([STATE_TOPIC, noise])
        rig.publisher.send_multipart([STATE_TOPIC + b"_of_another", noise])
        rig.publisher.send_multipart([STATUS_TOPIC, noise])
        for datagram in (noise, b"", bytes(4), b"\xff" * 60000):
            rig.datagrams.sendto(datagram, ("127.0.0.1", rig.sensor_port))
        # A second rig that means well.
        rig.send_samples(rig.now() + np.arange(13) / 650, stranger)

    rig.extra = garbage
    wanted = {
        "cameras: parts", "cameras: header", "cameras: foreign", "state: truncated", "state: topic", "state: header",
        "sensor: truncated", "sensor: count", "sensor: second_sender", "view5: time",
    }  # fmt: skip
    until(lambda: wanted <= set(counts(driver)))
    rig.extra = lambda: None
    until(lambda: driver.observe() is not None)
    driver.act(np.zeros(6, np.float32))
    stranger.close()


def test_a_jpeg_that_does_not_decode_leaves_the_picture_before_it(rig: SocketRig, driver: NeedleRig) -> None:
    driver.reset(0)
    whole = jpeg()
    rig.silent.add("OAK")

    def broken() -> None:
        if "OAK" in rig.silent:
            rig.send_picture("OAK", whole[: len(whole) // 2])

    rig.extra = broken
    until(lambda: "view5: not_jpeg" in counts(driver))
    rig.silent.clear()
    until(lambda: driver.observe() is not None)


def test_a_rig_that_is_not_there_is_one_line(rig: SocketRig) -> None:
    config = config_for(rig, ready_within=0.2)
    rig.close()
    driver = NeedleRig(config, log=lambda line: None)
    try:
        with pytest.raises(UsageError, match="no needle rig takes commands"):
            driver.reset(0)
    finally:
        driver.close()


def test_what_is_missing_at_the_start_is_named(rig: SocketRig) -> None:
    driver = NeedleRig(config_for(rig, ready_within=2.0), log=lambda line: None)
    try:
        rig.silent.add("sensor")
        rig.serve(driver.link.camera_port, driver.link.sensor_port, ["OAK"])
        with pytest.raises(UsageError, match=r"no picture of view1; .*0 of 650 sensor samples"):
            driver.reset(0)
    finally:
        driver.close()


def test_two_drivers_cannot_share_a_port(rig: SocketRig, driver: NeedleRig) -> None:
    taken = config_for(rig).model_dump()
    taken["ports"]["sensor"] = driver.link.sensor_port
    with pytest.raises(UsageError, match="cannot use its addresses"):
        NeedleRig(RigConfig.model_validate(taken), log=lambda line: None)


def test_the_simulated_rig_says_when_an_episode_is_over(rig: SocketRig, driver: NeedleRig) -> None:
    rig.status = RigStatus(seed=1, since=rig.now(), over=True, success=True)
    until(lambda: driver.link.status is not None)
    assert not driver.done  # of an episode that is not ours
    scene = RigStatus(seed=5, since=rig.now(), over=False, success=False, metrics={"docked": False})
    rig.status = scene
    driver.reset(5)
    assert not driver.done
    rig.status = RigStatus(5, scene.since, over=True, success=True, metrics={"docked": True})
    until(lambda: driver.done)
    assert driver.success
    assert driver.episode_report()["episode"] == {"docked": True}


def test_the_configuration_is_checked_entry_by_entry(tmp_path: Path) -> None:
    text = DEFAULT_FILE.read_text()
    for change, told in {
        ("5556", "70000"): "ports.state",
        ("needs_sensor", "needs_senses"): "episode.needs_sensor",
        ("ZED_11000002_left", "OAK"): "the same camera",
        ("[ports]", "[ports"): "at line",
        ("state = 0.25", "state = -1"): "stale_after.state",
    }.items():
        path = tmp_path / "rig.toml"
        path.write_text(text.replace(*change))
        with pytest.raises(UsageError, match=told) as caught:
            load_config(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="No such file"):
        load_config(tmp_path / "absent.toml")
