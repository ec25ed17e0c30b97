"""Every door of a running server is called as a robot would, and a refusal is not taken for an answer."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import msgpack
import pytest
from websockets.sync.server import ServerConnection, serve

from clients.bench.callers import open_caller
from clients.bench.cases import DOORS, Case, Door, Reference
from clients.bench.observation import bench_observation
from policy.errors import TinyVLAError
from policy.null import NullPolicy, null_spec
from service.running import RunningServer

SPEC = null_spec(cameras=("corner4", "wrist"), size=16)
TOKEN = "s3cret"


class Counting(NullPolicy):
    """Knows how often it ran."""

    runs = 0

    def predict(self, *args: object, **named: object) -> object:  # type: ignore[override]
        Counting.runs += 1
        return super().predict(*args, **named)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with RunningServer(lambda: Counting(SPEC), token=TOKEN, groot_port=0) as running:
        yield running


def url(server: RunningServer, door: Door) -> str:
    found = {"zmq": server.zmq_url, "groot": server.groot_url}.get(door, server.http_url)
    assert found is not None
    return found


@pytest.mark.parametrize("door", DOORS)
def test_each_call_is_one_run_of_the_policy(server: RunningServer, door: Door) -> None:
    case = Case(door, "jpeg" if door == "http-multipart" else "raw", 32, 24, 1, 0.0)
    caller = open_caller(case, url(server, door), TOKEN, bench_observation(SPEC, 32, 24))
    before = Counting.runs
    for _ in range(2):
        caller.call()
    caller.close()
    assert Counting.runs == before + 2


@pytest.mark.parametrize("door", [door for door in DOORS if door != "openpi"])
def test_a_refusal_is_an_error(server: RunningServer, door: Door) -> None:
    """openpi's client is refused while it connects, before it could call."""
    case = Case(door, "jpeg" if door == "http-multipart" else "raw", 32, 24, 1, 0.0)
    caller = open_caller(case, url(server, door), "wrong", bench_observation(SPEC, 32, 24))
    with pytest.raises(TinyVLAError):
        caller.call()
    caller.close()


@pytest.mark.parametrize("door", ["zmq", "http-msgpack", "http-json", "http-multipart", "groot", "zmq-chunk"])
def test_a_server_that_says_nothing_is_no_answer_every_time(
    monkeypatch: pytest.MonkeyPatch, door: Door | Reference
) -> None:
    monkeypatch.setattr("clients.bench.callers.TIMEOUT_S", 0.1)
    case = Case(door, "jpeg" if door == "http-multipart" else "raw", 32, 24, 1, 0.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        scheme = "http" if door.startswith("http") else "tcp"
        there = f"{scheme}://127.0.0.1:{silent.getsockname()[1]}"
        caller = open_caller(case, there, None, bench_observation(SPEC, 32, 24))
        for _ in range(2):
            with pytest.raises(ConnectionError):
                caller.call()
        caller.close()


def test_a_websocket_that_the_server_closes_is_no_answer_and_opened_anew() -> None:
    greeted: list[int] = []

    def greet_and_close(connection: ServerConnection) -> None:
        greeted.append(1)
        connection.send(msgpack.packb({}))

    with serve(greet_and_close, "127.0.0.1", 0) as closing:
        threading.Thread(target=closing.serve_forever, daemon=True).start()
        there = f"http://127.0.0.1:{closing.socket.getsockname()[1]}"
        case = Case("openpi", "raw", 32, 24, 1, 0.0)
        caller = open_caller(case, there, None, bench_observation(SPEC, 32, 24))
        for _ in range(2):
            with pytest.raises(ConnectionError):
                caller.call()
        closing.shutdown()
    assert len(greeted) == 2
    with pytest.raises(ConnectionError):
        caller.call()
    caller.close()


def test_an_observation_is_the_same_every_time_and_fits_the_policy() -> None:
    first, again = (bench_observation(SPEC, 40, 30) for _ in range(2))
    assert set(first.images) == {"corner4", "wrist"}
    assert all((first.images[name] == again.images[name]).all() for name in first.images)
    assert first.images["wrist"].shape == (30, 40, 3)
