"""The ZeroMQ door: DEALER and REQ, pipelining, small talk, tokens, and that nothing on the wire ends it."""

from __future__ import annotations

import socket
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policy.null import NullPolicy
from policy.spec import PolicySpec
from service.running import RunningServer
from service.wire import msgpack_codec, zmq_frames
from service.wire.messages import ActRequest

PATIENCE_S = 20.0


@pytest.mark.parametrize("kind", [zmq.DEALER, zmq.REQ], ids=["DEALER", "REQ"])
@pytest.mark.parametrize("images", ["raw", "jpeg"])
def test_both_kinds_of_client_are_served(
    server: RunningServer, connect: Any, request_: ActRequest, kind: int, images: Any
) -> None:
    client = connect(server.zmq_url, kind)
    for call_id in (1, 2):
        answer = client.ask(zmq_frames.encode_request(request_, call_id, image_format=images))
        assert answer.id == call_id
        reply = zmq_frames.decode_reply(answer)
        assert reply.actions.shape == (48, 4)
        assert (reply.session, reply.seq, reply.timestamp_ns) == ("arm-1", 5, request_.timestamp_ns)


def test_a_dealer_may_send_the_empty_delimiter_and_gets_it_back(dealer: Any, request_: ActRequest) -> None:
    dealer.socket.send_multipart([b"", *zmq_frames.encode_request(request_, 4)])
    first, *message = dealer.socket.recv_multipart()
    assert first == b""
    assert zmq_frames.decode_answer(message).id == 4


def test_both_doors_draw_the_same_chunk(server: RunningServer, dealer: Any, request_: ActRequest) -> None:
    over_zmq = zmq_frames.decode_reply(dealer.ask(zmq_frames.encode_request(request_, 1)))
    response = httpx.post(
        f"{server.http_url}/act",
        content=msgpack_codec.encode_request(request_),
        headers={"content-type": msgpack_codec.CONTENT_TYPE},
    )
    np.testing.assert_array_equal(over_zmq.actions, msgpack_codec.decode_reply(response.content).actions)


def test_pipelined_requests_share_a_run_and_replies_carry_their_id(
    held_server: RunningServer, held: Any, connect: Any, request_: ActRequest
) -> None:
    client = connect(held_server.zmq_url)
    plain = replace(request_, session=None)
    client.send(zmq_frames.encode_request(plain, 100))
    held.await_run()
    for call_id in (101, 102):
        client.send(zmq_frames.encode_request(replace(plain, seq=call_id), call_id))
    # The door reads in order: once it has answered this, it has queued the two before.
    assert client.ask(zmq_frames.encode_call("ping", 103)).fields == {
        "ready": True,
        "policy": held.spec.label,
    }
    held.go.set()
    replies = {answer.id: zmq_frames.decode_reply(answer) for answer in (client.receive() for _ in range(3))}
    assert {call_id: reply.seq for call_id, reply in replies.items()} == {100: 5, 101: 101, 102: 102}
    assert [replies[call_id].timing_ms.batch for call_id in (100, 101, 102)] == [1, 2, 2]


def test_reset_answers_what_waits_for_the_session(
    held_server: RunningServer, held: Any, connect: Any, request_: ActRequest
) -> None:
    client = connect(held_server.zmq_url)
    client.send(zmq_frames.encode_request(request_, 1))
    held.await_run()
    client.send(zmq_frames.encode_request(request_, 2))
    client.send(zmq_frames.encode_call("reset", 3, fields={"session": "arm-1"}))
    answers = {answer.id: answer for answer in (client.receive(), client.receive())}
    assert answers[3].error is None
    assert answers[2].error is not None
    assert answers[2].error.code == "superseded"


def test_spec_tells_the_contract(dealer: Any, everything: PolicySpec) -> None:
    answer = dealer.ask(zmq_frames.encode_call("spec", 1))
    assert answer.fields["policy"] == everything.label
    assert PolicySpec.model_validate(answer.fields["spec"]) == everything


def test_a_token_locks_every_operation(everything: PolicySpec, connect: Any, request_: ActRequest) -> None:
    with RunningServer(lambda: NullPolicy(everything), token="s3cret") as server:
        client = connect(server.zmq_url)
        for token in (None, "wrong"):
            refused = [client.ask(zmq_frames.encode_call(op, 1, token=token)) for op in zmq_frames.OPS]
            assert [answer.error and answer.error.code for answer in refused] == ["unauthorized"] * 4
        for frames in (
            zmq_frames.encode_call("ping", 2, token="s3cret"),
            zmq_frames.encode_request(request_, 3, token="s3cret"),
        ):
            assert client.ask(frames).error is None


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(frames=st.lists(st.binary(max_size=30), min_size=1, max_size=4))
def test_no_message_ends_the_server(dealer: Any, frames: list[bytes]) -> None:
    # Behind REQ's delimiter, so that a message which begins with an empty frame is told apart from one.
    dealer.socket.send_multipart([b"", *frames])
    delimiter, *message = dealer.socket.recv_multipart()
    assert delimiter == b""
    error = zmq_frames.decode_answer(message).error
    assert error is not None
    assert error.code in ("malformed", "too_large")
    assert dealer.ask(zmq_frames.encode_call("ping", 7)).id == 7


def test_strangers_and_vanished_clients_do_no_harm(
    server: RunningServer, dealer: Any, connect: Any, request_: ActRequest
) -> None:
    host, port = server.zmq_url.removeprefix("tcp://").split(":")
    with socket.create_connection((host, int(port))) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n" + bytes(range(256)))
    vanishing = connect(server.zmq_url)
    vanishing.send(zmq_frames.encode_request(request_, 1))
    vanishing.close()
    assert dealer.ask(zmq_frames.encode_request(request_, 2)).error is None


def test_what_was_asked_before_stopping_is_answered(held: Any, connect: Any, request_: ActRequest) -> None:
    with RunningServer(lambda: held) as server:
        client = connect(server.zmq_url)
        client.send(zmq_frames.encode_request(request_, 1))
        held.await_run()
        held.go.set()
    assert zmq_frames.decode_reply(client.receive()).seq == 5


def test_both_doors_answers_are_counted(everything: PolicySpec, connect: Any, request_: ActRequest) -> None:
    with RunningServer(lambda: NullPolicy(everything)) as server:
        client = connect(server.zmq_url)
        client.ask(zmq_frames.encode_request(request_, 1))
        client.ask([b"\xc1"])
        client.ask(zmq_frames.encode_call("ping", 3))  # the first answer's count is in by now
        text = server.engine.metrics.text().decode()
    assert 'tinyvla_requests_total{code="malformed",door="zmq"} 1.0' in text
    assert 'tinyvla_requests_total{code="ok",door="zmq"}' in text
