"""`tinyvla serve` as a process: ready, served, stopped by a signal; otherwise one line and exit code 2."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from policy.checksums import CHECKSUMS

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 90.0
ENVIRON = {key: value for key, value in os.environ.items() if not key.startswith("TINYVLA_")}
FREE = ["--port", "0", "--zmq-port", "0"]


def command(*flags: str) -> list[str]:
    return [sys.executable, str(ROOT / "tinyvla.py"), "serve", *flags]


class Serving:
    """The process, and the lines it wrote until it was ready."""

    def __init__(self, *flags: str, until: str, null: bool = True) -> None:
        self.process = subprocess.Popen(
            command(*(["--null", *FREE] if null else []), *flags),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=ENVIRON,
        )
        assert self.process.stdout is not None
        watchdog = threading.Timer(PATIENCE_S, self.process.kill)  # ends the reading below, so nothing hangs
        watchdog.start()
        self.lines: list[str] = []
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            if until in line:
                break
        watchdog.cancel()

    def url(self) -> str:
        found = re.search(r"http://\S+", "\n".join(self.lines))
        assert found, self.lines
        return found[0]

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate(timeout=PATIENCE_S)


@pytest.fixture
def serve() -> Iterator[type[Serving]]:
    made: list[Serving] = []

    class Tracked(Serving):
        def __init__(self, *flags: str, until: str = "ready:") -> None:
            super().__init__(*flags, until=until)
            made.append(self)

    yield Tracked
    for each in made:
        each.end()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_it_says_when_it_is_ready_and_ends_well_on_a_signal(serve: type[Serving], number: int) -> None:
    serving = serve()  # type: ignore[call-arg]
    assert re.search(
        r"ready: null@[0-9a-f]{12} runtime=null device=cpu at http://\S+ and tcp://", serving.lines[-1]
    )
    assert httpx.get(f"{serving.url()}/readyz", timeout=PATIENCE_S).status_code == 200
    serving.process.send_signal(number)
    rest, _ = serving.process.communicate(timeout=PATIENCE_S)
    assert serving.process.returncode == 0
    assert "Traceback" not in rest


def test_sigterm_lets_queued_work_finish(serve: type[Serving]) -> None:
    serving = serve("--null-run-ms", "1500", "--max-batch", "1")  # type: ignore[call-arg]
    blank = {"data": "AAAA", "shape": [1, 1, 3], "dtype": "uint8"}
    body = {"images": {"corner4": blank}, "state": [0, 0, 0, 0]}
    with ThreadPoolExecutor(3) as pool:
        url = serving.url()
        asked = [pool.submit(httpx.post, f"{url}/act", json=body, timeout=PATIENCE_S) for _ in range(3)]
        while not re.search(r"tinyvla_queue_depth 2\.0", httpx.get(f"{url}/metrics").text):
            assert not all(one.done() for one in asked)
        serving.process.send_signal(signal.SIGTERM)
        assert [one.result(PATIENCE_S).status_code for one in asked] == [200] * 3
    serving.process.communicate(timeout=PATIENCE_S)
    assert serving.process.returncode == 0


def test_work_that_outlasts_the_grace_time_is_abandoned(serve: type[Serving]) -> None:
    # The first run is the warm-up's, so this one loads for an hour.
    serving = serve("--null-run-ms", "3600000", "--grace-s", "0.1", "--log-level", "debug", until="loading")
    serving.process.send_signal(signal.SIGTERM)
    serving.process.communicate(timeout=PATIENCE_S)
    assert serving.process.returncode == 0


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_a_second_signal_of_either_kind_ends_it_on_the_spot(serve: type[Serving], second: int) -> None:
    serving = serve("--null-run-ms", "3600000", "--log-level", "debug", until="loading")
    serving.process.send_signal(signal.SIGTERM)
    assert serving.process.stdout is not None
    while "stopping" not in serving.process.stdout.readline():
        assert serving.process.poll() is None
    serving.process.send_signal(second)
    serving.process.communicate(timeout=PATIENCE_S)
    assert serving.process.returncode == 128 + second


def test_several_bundles_are_served_and_the_first_is_active(tmp_path: Path) -> None:
    shipped = ROOT / "bundles" / "metaworld8"
    shutil.copytree(shipped, tmp_path / "renamed")
    contract = tmp_path / "renamed" / "policy.json"
    contract.write_text(json.dumps({**json.loads(contract.read_text()), "name": "renamed"}))
    (tmp_path / "renamed" / CHECKSUMS).unlink(missing_ok=True)
    flags = ["--bundle", str(shipped), "--bundle", str(tmp_path / "renamed"), "--threads", "1", *FREE]
    serving = Serving(*flags, until="ready:", null=False)
    try:
        listed = httpx.get(f"{serving.url()}/policies", timeout=PATIENCE_S).json()
        assert [policy["name"] for policy in listed["policies"]] == ["metaworld8", "renamed"]
        assert listed["active"].startswith("metaworld8@")
        assert listed["policies"][0]["why"]
    finally:
        serving.end()


def test_a_public_address_gets_a_token_and_a_line_to_paste(serve: type[Serving]) -> None:
    serving = serve("--host", "0.0.0.0", until="curl ")
    words = shlex.split(serving.lines[-1])
    assert words[0] == "curl"
    token = next(word for word in words if word.startswith("Authorization: Bearer ")).split()[-1]
    assert len(token) >= 24
    assert any(word.startswith("corner4=@") for word in words)
    policies = f"{serving.url()}/policies"
    assert httpx.get(policies, timeout=PATIENCE_S).status_code == 401
    right = {"authorization": f"Bearer {token}"}
    assert httpx.get(policies, headers=right, timeout=PATIENCE_S).status_code == 200


def refused(*flags: str) -> str:
    """The one line that a process which must not start leaves."""
    done = subprocess.run(
        command(*flags), capture_output=True, text=True, env=ENVIRON, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 2, done
    assert done.stderr.startswith("tinyvla serve: ")
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr


@pytest.mark.parametrize("flag", ["--port", "--zmq-port"])
def test_a_port_in_use_is_one_line_and_exit_code_2(flag: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        told = refused("--null", *FREE, flag, port)
    assert f"{flag} {port}" in told


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--prot", "1"], "--prot"),
        (["--bundle", "/no/such/bundle", *FREE], "/no/such/bundle"),
        (["--null", "--host", "no.such.host.invalid", *FREE], "no.such.host.invalid"),
        (["--null", "--host", "192.0.2.1", *FREE], "192.0.2.1"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_and_exit_code_2(flags: list[str], said: str) -> None:
    assert said in refused(*flags)


def test_a_damaged_bundle_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    (tmp_path / "policy.json").write_text('{"format": "tinyvla-policy/1", "name"')
    assert str(tmp_path) in refused("--bundle", str(tmp_path), *FREE)
