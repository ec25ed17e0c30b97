"""The client SDKs against a real server: the same chunk over every transport, and errors with codes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
import zmq

from clients.client_options import ClientOptions
from clients.connect import connect
from clients.http import AsyncHttpClient, HttpClient
from clients.inprocess import InProcessClient
from clients.retry import NEVER
from clients.zmq import ZmqClient
from policy.errors import TinyVLAError, UsageError
from policy.null import NullPolicy, null_spec
from policy.observation import Observation, SampleOptions
from service.running import RunningServer
from service.wire.messages import ActRequest

SPEC = null_spec(cameras=("left", "right"), size=16)
SCHEMES = ("http", "tcp")


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with RunningServer(lambda: NullPolicy(SPEC), token="secret") as running:
        yield running


def url(server: RunningServer, scheme: str) -> str:
    return server.http_url if scheme == "http" else server.zmq_url


def request(seed: int = 3, **changes) -> ActRequest:
    images = {name: np.arange(768, dtype=np.uint8).reshape(16, 16, 3) for name in ("left", "right")}
    options = SampleOptions(seed=seed, prefix=np.full((5, 4), 0.25, np.float32))
    fields = {"session": "s", "seq": 4, "timestamp_ns": 5, **changes}
    return ActRequest(Observation(images, np.zeros(4, np.float32), "go"), options, **fields)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("image_format", ["raw", "jpeg"])
def test_every_transport_answers_what_the_policy_answers_in_process(server, scheme, image_format):
    expected = InProcessClient(NullPolicy(SPEC)).act(request())
    client = connect(url(server, scheme), "secret", ClientOptions(image_format=image_format))
    try:
        assert client.spec() == SPEC
        client.reset("s")
        reply = client.act(request())
    finally:
        client.close()
    np.testing.assert_array_equal(reply.actions, expected.actions)
    np.testing.assert_array_equal(reply.actions[:5], 0.25)
    assert (reply.session, reply.seq, reply.timestamp_ns, reply.seed) == ("s", 4, 5, 3)
    assert reply.policy == SPEC.label


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_wrong_token_is_refused_with_its_code(server, scheme):
    client = connect(url(server, scheme), "guess")
    try:
        for call in (client.spec, lambda: client.act(request())):
            with pytest.raises(TinyVLAError) as caught:
                call()
            assert caught.value.code == "unauthorized"
    finally:
        client.close()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_refusal_names_the_field_and_leaves_the_client_usable(server, scheme):
    client = connect(url(server, scheme), "secret")
    try:
        with pytest.raises(TinyVLAError) as caught:
            client.act(request(policy="somebody-else"))
        assert (caught.value.code, caught.value.field) == ("unknown_policy", "policy")
        assert client.act(request()).seq == 4
    finally:
        client.close()


@pytest.mark.parametrize(("scheme", "client"), [("http", HttpClient), ("tcp", ZmqClient)])
def test_no_server_is_a_connection_error_that_names_the_address(scheme, client):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"{scheme}://127.0.0.1:{free.getsockname()[1]}"
    speaking = client(address, options=ClientOptions(timeout_s=0.2))
    try:
        with pytest.raises(ConnectionError, match=address):
            speaking.spec()
    finally:
        speaking.close()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_server_that_comes_back_on_the_same_port_is_found_again(scheme):
    def start(**ports: int) -> RunningServer:
        return RunningServer(lambda: NullPolicy(SPEC), **ports)

    with start() as first:
        address = url(first, scheme)
        port = int(address.rsplit(":", 1)[1])
        client = connect(address, options=ClientOptions(timeout_s=1.0))
        assert client.act(request()).seq == 4
    try:
        with pytest.raises(ConnectionError):
            client.act(request())
        with start(**{"port" if scheme == "http" else "zmq_port": port}):
            assert client.act(request()).seq == 4
    finally:
        client.close()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_server_that_does_not_answer_in_time_is_a_connection_error(scheme):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"{scheme}://127.0.0.1:{silent.getsockname()[1]}"
        client = connect(address, options=ClientOptions(timeout_s=0.2))
        try:
            with pytest.raises(ConnectionError, match="did not answer"):
                client.act(request())
        finally:
            client.close()


def test_a_connection_that_breaks_just_before_sending_is_a_connection_error(server, monkeypatch):
    def broke(*_, **__) -> None:
        raise zmq.Again

    client = connect(url(server, "tcp"), "secret")
    try:
        with monkeypatch.context() as patched:
            patched.setattr(zmq.Socket, "send_multipart", broke)
            with pytest.raises(ConnectionError):
                client.act(request())
        assert client.act(request()).seq == 4
    finally:
        client.close()


@pytest.mark.parametrize(
    "address", ["127.0.0.1:8000", "ftp://x", "http://", "", "http://127.0.0.1:80a", "http://xn--:3"]
)
def test_an_address_that_is_none_is_told_with_an_example(address):
    with pytest.raises(UsageError, match=r"http://127\.0\.0\.1:8000"):
        connect(address)


def asked_of(side: int) -> ActRequest:
    return ActRequest(Observation({"a": np.zeros((side, side, 3), np.uint8)}, np.zeros(4, np.float32), "go"))


@pytest.mark.parametrize("made", ["blocking", "async"])
def test_an_answer_that_crawls_in_ends_when_the_call_s_time_is_up(made):
    """Something comes all the while, so that no part of it is late by itself."""
    done = threading.Event()

    def crawl(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(2**18)
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
            for _ in range(200):
                connection.sendall(b"x")
                if done.wait(0.05):
                    break

    async def once(address: str, options: ClientOptions) -> None:
        async with AsyncHttpClient(address, options=options) as client:
            await client.act(asked_of(8))

    options = ClientOptions(timeout_s=1.0, retry=NEVER)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        threading.Thread(target=crawl, args=(listening,), daemon=True).start()
        with pytest.raises(ConnectionError, match="in time"), HttpClient(address, options=options) as client:
            asyncio.run(once(address, options)) if made == "async" else client.act(asked_of(8))
        done.set()


def test_a_request_that_crawls_out_ends_when_the_call_s_time_is_up(monkeypatch):
    def crawl(request: httpx.Request) -> httpx.Response:
        assert isinstance(request.stream, httpx.SyncByteStream)
        for _ in request.stream:
            time.sleep(0.1)
        return httpx.Response(500)

    client = HttpClient("http://robot", options=ClientOptions(timeout_s=0.5, retry=NEVER))
    monkeypatch.setattr(client, "_http", httpx.Client(transport=httpx.MockTransport(crawl)))
    with client, pytest.raises(ConnectionError, match="in time"):
        client.act(asked_of(1000))  # 3 MB
    with pytest.raises(ConnectionError, match="in time"):
        client._exchange(httpx.Request("GET", "http://robot"), 0.0)
