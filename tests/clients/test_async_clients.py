"""The async SDKs against a real server: as the blocking ones, and many calls at once."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from clients.client_options import ClientOptions
from clients.connect import connect_async
from clients.contract_check import Expects
from clients.inprocess import InProcessClient
from clients.retry import NEVER
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


def request(seed: int = 3, size: int = 16) -> ActRequest:
    image = np.random.default_rng(seed).integers(0, 255, (size, size, 3), dtype=np.uint8)
    observation = Observation(dict.fromkeys(("left", "right"), image), np.zeros(4, np.float32), "go")
    return ActRequest(observation, SampleOptions(seed=seed), seq=seed)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("options", [ClientOptions(), ClientOptions(image_format="jpeg", resize=True)])
def test_every_transport_answers_what_the_policy_answers_in_process(server, scheme, options):
    async def talk() -> None:
        async with connect_async(url(server, scheme), "secret", options) as client:
            assert await client.spec() == SPEC
            await client.reset("s")
            reply = await client.act(request(size=40))
        expected = InProcessClient(NullPolicy(SPEC)).act(request())
        np.testing.assert_array_equal(reply.actions, expected.actions)
        assert (reply.seq, reply.policy) == (3, SPEC.label)

    asyncio.run(talk())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_overlapping_calls_each_get_their_own_answer(server, scheme):
    async def talk() -> None:
        async with connect_async(url(server, scheme), "secret") as client:
            replies = await asyncio.gather(*(client.act(request(seed)) for seed in range(20)))
        for seed, reply in enumerate(replies):
            expected = InProcessClient(NullPolicy(SPEC)).act(request(seed))
            assert reply.seq == seed
            np.testing.assert_array_equal(reply.actions, expected.actions)

    asyncio.run(talk())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_refusal_names_the_field_and_leaves_the_client_usable(server, scheme):
    async def talk() -> None:
        async with connect_async(url(server, scheme), "secret") as client:
            with pytest.raises(TinyVLAError) as caught:
                await client.act(replace(request(), policy="somebody-else"))
            assert (caught.value.code, caught.value.field) == ("unknown_policy", "policy")
            assert (await client.act(request())).seq == 3
        async with connect_async(url(server, scheme), "guess") as client:
            with pytest.raises(TinyVLAError) as caught:
                await client.spec()
            assert caught.value.code == "unauthorized"

    asyncio.run(talk())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_policy_for_another_robot_is_refused_before_the_first_chunk(server, scheme):
    async def talk() -> None:
        options = ClientOptions(expects=Expects(cameras=("left",)))
        async with connect_async(url(server, scheme), "secret", options) as client:
            with pytest.raises(TinyVLAError, match="right") as caught:
                await client.act(request())
            assert caught.value.code == "contract_mismatch"

    asyncio.run(talk())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_no_server_is_a_connection_error_that_names_the_address(scheme):
    async def talk() -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"{scheme}://127.0.0.1:{free.getsockname()[1]}"
        async with connect_async(address, options=ClientOptions(timeout_s=0.2)) as client:
            with pytest.raises(ConnectionError, match=address):
                await client.act(request())

    asyncio.run(talk())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_server_that_does_not_answer_in_time_is_a_connection_error(scheme):
    async def talk(address: str) -> None:
        async with connect_async(address, options=ClientOptions(timeout_s=0.2)) as client:
            with pytest.raises(ConnectionError, match="did not answer"):
                await client.act(request())

    with socket.create_server(("127.0.0.1", 0)) as silent:
        asyncio.run(talk(f"{scheme}://127.0.0.1:{silent.getsockname()[1]}"))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_server_that_comes_back_on_the_same_port_is_found_again(scheme):
    async def talk() -> None:
        with RunningServer(lambda: NullPolicy(SPEC)) as first:
            address = url(first, scheme)
            client = connect_async(address, options=ClientOptions(timeout_s=1.0))
            assert (await client.act(request())).seq == 3
            await asyncio.to_thread(first.stop)
        with pytest.raises(ConnectionError):
            await client.act(request())
        port = {"port" if scheme == "http" else "zmq_port": int(address.rsplit(":", 1)[1])}
        with RunningServer(lambda: NullPolicy(SPEC), **port):
            assert (await client.act(request())).seq == 3
        await client.close()

    asyncio.run(talk())


def test_closing_ends_the_calls_that_still_wait():
    async def talk(address: str) -> None:
        client = connect_async(address, options=ClientOptions(timeout_s=60.0, retry=NEVER))
        waiting = asyncio.create_task(client.act(request()))
        while not client._waiting:  # type: ignore[attr-defined]
            await asyncio.sleep(0.001)
        await client.close()
        with pytest.raises(ConnectionError, match="closed"):
            await waiting

    with socket.create_server(("127.0.0.1", 0)) as silent:
        asyncio.run(talk(f"tcp://127.0.0.1:{silent.getsockname()[1]}"))


def test_an_address_that_is_none_is_told_with_an_example():
    with pytest.raises(UsageError, match=r"http://127\.0\.0\.1:8000"):
        connect_async("localhost")
