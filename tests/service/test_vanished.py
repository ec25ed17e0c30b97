"""A client that leaves before its answer is there costs no run, whichever door it came through."""

from __future__ import annotations

import socket
import threading
from dataclasses import replace
from typing import Any

import msgpack
import numpy as np
import pytest
from websockets.sync.client import connect as connect_websocket

from service.running import RunningServer
from service.wire import msgpack_codec
from service.wire.messages import ActRequest

PATIENCE_S = 20.0


class Fates:
    """What became of the requests that a door queued."""

    def __init__(self) -> None:
        self.queued, self.cancelled = threading.Event(), threading.Event()

    def follow(self, future: Any) -> None:
        future.add_done_callback(lambda done: self.cancelled.set() if done.cancelled() else None)
        self.queued.set()


@pytest.fixture
def fates(held_server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> Fates:
    fates, submit = Fates(), held_server.engine.submit

    def followed(*args: Any, **kwargs: Any) -> Any:
        future = submit(*args, **kwargs)
        fates.follow(future)
        return future

    monkeypatch.setattr(held_server.engine, "submit", followed)
    return fates


def keep_busy(server: RunningServer, held: Any, request: ActRequest) -> Any:
    """Let one run begin, so that whatever comes next waits."""
    future = server.engine.submit(replace(request, session=None))
    held.await_run()
    return future


def test_over_http(held_server: RunningServer, held: Any, request_: ActRequest, fates: Fates) -> None:
    running = keep_busy(held_server, held, request_)
    fates.queued.clear()
    body = msgpack_codec.encode_request(request_)
    host, port = held_server.http_url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as client:
        head = "POST /act HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/msgpack\r\n"
        client.sendall(head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
        assert fates.queued.wait(PATIENCE_S)
    assert fates.cancelled.wait(PATIENCE_S)
    held.go.set()
    assert running.result(PATIENCE_S)
    assert held.batches == [1]


def test_over_the_websocket(
    held_server: RunningServer, held: Any, request_: ActRequest, fates: Fates
) -> None:
    running = keep_busy(held_server, held, request_)
    fates.queued.clear()
    observation = {
        f"images/{name}": {b"__ndarray__": True, b"data": i.tobytes(), b"dtype": "|u1", b"shape": i.shape}
        for name, i in request_.observation.images.items()
    }
    state = np.zeros(4, np.float32)
    observation["state"] = {b"__ndarray__": True, b"data": state.tobytes(), b"dtype": "<f4", b"shape": [4]}
    with connect_websocket(held_server.http_url.replace("http", "ws"), compression=None) as client:
        client.recv(PATIENCE_S)
        client.send(msgpack.packb(observation))
        assert fates.queued.wait(PATIENCE_S)
    assert fates.cancelled.wait(PATIENCE_S)
    held.go.set()
    assert running.result(PATIENCE_S)
    assert held.batches == [1]
