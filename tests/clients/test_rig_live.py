"""The simulated rig behind its wire and the driver in front of it: two processes, real sockets, real rates."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from clients.rig_sim.command import RigSimArgs, rig_parameters
from clients.rig_sim.faults import Faults
from clients.rig_sim.live import WIRE_CAMERAS, encode_view
from clients.rig_sim.lockstep import NeedleRigSim
from clients.rig_sim.parameters import load_parameters
from clients.rig_sim.rig_sockets import RigAddresses, RigSockets
from clients.robots.base import RobotObservation
from clients.robots.needle_rig import NeedleRig
from clients.robots.needle_rig_config import RigConfig, load_config
from clients.robots.needle_rig_contract import SENSOR, SENSOR_WINDOW, VIEWS
from clients.robots.rig_wire import decode_jpeg
from policy.errors import UsageError
from tinyvla import main

ROOT = Path(__file__).resolve().parents[2]
PARAMETERS = load_parameters()
PATIENCE_S = 60.0


def free_ports(count: int) -> list[int]:
    held = [socket.socket() for _ in range(count)]
    for one in held:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


@pytest.fixture(scope="module")
def shots() -> dict[str, np.ndarray]:
    """All views of one scene."""
    sim = NeedleRigSim(PARAMETERS)
    sim.reset(3)
    renderer = sim.make_renderer()
    shot = sim.snapshot()
    images = renderer.render(shot.layout, shot.pose)
    model = renderer.data
    np.testing.assert_allclose(model.site("tip").xpos, sim.core.tip, atol=1e-5)
    np.testing.assert_allclose(model.site("entry").xpos, sim.core.eye.entry, atol=1e-9)
    renderer.close()
    return images


def test_pictures_show_the_physics_scene_in_every_view(shots: dict[str, np.ndarray]) -> None:
    cameras = PARAMETERS.cameras
    for view, image in shots.items():
        assert image.shape == (cameras.height, cameras.width, 3)
        red, green, blue = (image[..., c].astype(int) for c in range(3))
        cap = (red > 150) & (green < 190) & (blue < 90) & (red - blue > 80)
        dark = image.max(-1) < 70  # needle, holder, pupil
        white = image.min(-1) > 180
        assert cap.sum() > (4 if view == "view5" else 40), view
        assert dark.sum() > 30, view
        assert white.sum() > 200, view


def test_the_jpeg_of_a_view_is_close_to_the_view(shots: dict[str, np.ndarray]) -> None:
    image = shots["view1"]
    back = decode_jpeg(encode_view(image, PARAMETERS.cameras.quality))
    assert np.abs(back.astype(int) - image).mean() < 2


def test_the_default_configuration_knows_the_simulated_rig_s_cameras() -> None:
    config = load_config()
    assert config.cameras == WIRE_CAMERAS
    assert tuple(config.cameras) == VIEWS
    addresses = RigAddresses()
    assert config.ports.model_dump() == {
        "cameras": addresses.camera_port, "state": addresses.state_port, "sensor": addresses.sensor_port,
        "commands": addresses.command_port,
    }  # fmt: skip


def test_faults_happen_when_they_are_asked_for() -> None:
    assert not any(Faults().lost() for _ in range(100))
    every = Faults(loss=1.0)
    assert all(every.lost() for _ in range(100))
    half = Faults(loss=0.5)
    assert 350 < sum(half.lost() for _ in range(1000)) < 650
    lost = Faults(lost_view="view3", lost_after=2.0)
    assert [lost.view_lost("view3", t) for t in (1.9, 2.0)] == [False, True]
    assert not lost.view_lost("view1", 5.0)
    silent = Faults(silence=(3.0, 5.0))
    assert [silent.sensor_silent(t) for t in (2.9, 3.0, 4.9, 5.0)] == [False, True, True, False]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--size", "128"], "--size 128: expected WIDTHxHEIGHT"),
        (["--size", "0x72"], "--size 0x72"),
        (["--loss", "2"], "--loss 2: expected 0 ... 1"),
        (["--lost-view", "view9"], "--lost-view view9: there are view1"),
        (["--seed", "-1"], "--seed -1"),
        (["--parameters", "/nowhere.toml"], "/nowhere.toml: No such file"),
        (["--receiver", "no host"], "cannot use its addresses"),
        (["--sensor-port", "99999"], "--sensor-port 99999: expected 1 ... 65535"),
        (["--camera-port", "0"], "--camera-port 0: expected 1 ... 65535"),
    ],
)
def test_a_flag_at_fault_is_one_line(capsys: pytest.CaptureFixture[str], flags: list[str], told: str) -> None:
    ports = [f"--{name}-port=0" for name in ("state", "command")]
    assert main(["rig-sim", *ports, *flags]) == 2
    said = capsys.readouterr().err
    assert said.startswith("tinyvla rig-sim: ")
    assert told in said
    assert said.count("\n") == 1


def test_pictures_of_another_size_are_asked_for_by_a_flag() -> None:
    cameras = rig_parameters(RigSimArgs(size="64x36")).cameras
    assert (cameras.width, cameras.height) == (64, 36)


def test_two_rigs_cannot_share_a_port() -> None:
    first = RigSockets(RigAddresses(state_port=0, command_port=0))
    try:
        with pytest.raises(UsageError, match="cannot use its addresses"):
            RigSockets(RigAddresses(state_port=first.state_port, command_port=0))
    finally:
        first.close()


@pytest.fixture
def running(request: pytest.FixtureRequest) -> Iterator[RigConfig]:
    """`tinyvla rig-sim` as a process, and the configuration that reaches it."""
    camera, state, sensor, command = free_ports(4)
    flags = [
        f"--camera-port={camera}",
        f"--state-port={state}",
        f"--sensor-port={sensor}",
        f"--command-port={command}",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "tinyvla", "rig-sim", "--size", "64x36", *flags, *request.param],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    assert "needle rig (simulated)" in process.stdout.readline()
    told = load_config().model_dump()
    told["ports"] = {"cameras": camera, "state": state, "sensor": sensor, "commands": command}
    # A loaded machine is no fault of the rig's.
    told["stale_after"] = {"cameras": 10.0, "state": 10.0, "sensor": 10.0}
    told["episode"]["ready_within"] = 60.0
    yield RigConfig.model_validate(told)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert re.search(r"sent and received: .*\d+ states", said)


def seen_by(driver: NeedleRig) -> RobotObservation:
    """The next observation; on a loaded machine it may take several frames."""
    deadline = time.monotonic() + PATIENCE_S
    while (seen := driver.observe()) is None:
        assert time.monotonic() < deadline, driver.episode_report()
    return seen


@pytest.mark.parametrize("running", [["--clock-offset", "3", "--loss", "0.05"]], indirect=True)
def test_the_driver_drives_the_simulated_rig_over_a_lossy_wire(running: RigConfig) -> None:
    driver = NeedleRig(running, log=lambda line: None)
    try:
        driver.reset(3)
        first = seen_by(driver)
        assert first.images["view1"].shape == (36, 64, 3)
        for _ in range(8):
            driver.act(np.array([0, 0, 0.05, 0, 0, 0], np.float32))
            later = seen_by(driver)
        assert later.captured_at > first.captured_at
        assert later.state[2] > first.state[2] + 0.02  # mm: it went up
        assert 0 < len(later.sensors[SENSOR]) <= SENSOR_WINDOW
        # The scene is that of the seed: where it starts is known.
        start = NeedleRigSim(PARAMETERS)
        start.reset(3)
        np.testing.assert_allclose(first.state[:6], start.state[:6], atol=0.1)
        report = driver.episode_report()
        assert report["episode"]["aborted"] is None
        offsets = report["clock_offset_s"]
        assert max(offsets.values()) - min(offsets.values()) < 2.0
        assert not driver.done
    finally:
        driver.close()
