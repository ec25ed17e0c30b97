"""One id from door to engine to reply: the client's own where it gave a fit one, and the log's as well."""

from __future__ import annotations

import logging
from typing import Any

import httpx
import pytest

from policy.errors import TinyVLAError
from policy.null import NullPolicy, null_spec
from service import request_id
from service.running import RunningServer
from service.wire import json_codec, msgpack_codec, zmq_frames
from service.wire.messages import ActRequest

PATIENCE_S = 20.0
HEADER = "x-request-id"


def act(client: httpx.Client, request: ActRequest, **headers: str) -> httpx.Response:
    body = msgpack_codec.encode_request(request)
    return client.post("/act", content=body, headers={"content-type": msgpack_codec.CONTENT_TYPE, **headers})


def test_the_client_s_id_comes_back_over_http(http: httpx.Client, request_: ActRequest) -> None:
    assert act(http, request_, **{HEADER: "arm-1/step.17"}).headers[HEADER] == "arm-1/step.17"


def test_without_one_each_request_gets_its_own(http: httpx.Client, request_: ActRequest) -> None:
    first, second = (act(http, request_).headers[HEADER] for _ in range(2))
    assert first
    assert first != second


@pytest.mark.parametrize("path", ["/healthz", "/policies", "/nowhere", "/static/nothing"])
def test_every_response_tells_its_id(http: httpx.Client, path: str) -> None:
    assert http.get(path, headers={HEADER: "mine"}).headers[HEADER] == "mine"


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "a\tb", 'a"b', "ä"])
def test_an_id_that_could_spoil_a_log_is_replaced(
    http: httpx.Client, request_: ActRequest, given: str
) -> None:
    body = msgpack_codec.encode_request(request_)
    headers = {"content-type": msgpack_codec.CONTENT_TYPE, HEADER: given.encode()}
    told = http.post("/act", content=body, headers=headers).headers[HEADER]  # type: ignore[arg-type]
    assert told != given
    assert request_id._ALLOWED.fullmatch(told)


def test_it_comes_back_over_zeromq_with_replies_and_refusals(dealer: Any, request_: ActRequest) -> None:
    answer = dealer.ask(zmq_frames.encode_request(request_, 1, request_id="mine"))
    assert (answer.error, answer.request_id) == (None, "mine")
    refused = dealer.ask(
        zmq_frames.encode_call("spec", 2, fields={"policy": "other", "request_id": "mine-2"})
    )
    assert refused.error is not None
    assert refused.request_id == "mine-2"
    made = dealer.ask(zmq_frames.encode_call("ping", 3))
    assert made.request_id
    unreadable = dealer.ask([b"\xc1"])
    assert unreadable.request_id not in (None, made.request_id)
    odd = dealer.ask(zmq_frames.encode_call("ping", 4, fields={"request_id": {"no": "text"}}))
    assert odd.error is None
    assert isinstance(odd.request_id, str)


class Broken(NullPolicy):
    """Fails on every run after warm-up."""

    warm = False

    def predict(self, *args: Any) -> Any:
        if self.warm:
            raise RuntimeError("the device is on fire")
        self.warm = True
        return super().predict(*args)


def test_an_internal_error_is_logged_under_the_id_that_the_client_is_told(
    request_: ActRequest, caplog: pytest.LogCaptureFixture
) -> None:
    """The engine's thread runs the batch, and knows whose request failed."""
    caplog.set_level(logging.INFO)
    with (
        RunningServer(lambda: Broken(null_spec(size=16))) as server,
        httpx.Client(base_url=server.http_url, timeout=PATIENCE_S) as client,
    ):
        body = {
            "images": {"corner4": {"data": "AAAA", "shape": [1, 1, 3], "dtype": "uint8"}},
            "state": [0] * 4,
        }
        response = client.post("/act", json=body, headers={HEADER: "mine-7"})
    assert response.status_code == 500
    assert response.headers[HEADER] == "mine-7"
    error = json_codec.decode_error(response.content)
    assert "mine-7" in error.detail
    assert "fire" not in response.text
    [line] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "mine-7" in line.getMessage()
    assert line.exc_info is not None
    assert "fire" in str(line.exc_info[1])


def test_an_error_of_a_route_is_one_line_in_the_log(
    server: RunningServer,
    http: httpx.Client,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(server.engine.metrics, "text", lambda: {}["on fire"])
    response = http.get("/metrics", headers={HEADER: "mine-8"})
    assert response.status_code == 500
    assert "mine-8" in json_codec.decode_error(response.content).detail
    http.get("/healthz")  # what the connection's task logs of the one before, it has logged by now
    [line] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "mine-8" in line.getMessage()


def test_a_thread_handles_one_request_at_a_time() -> None:
    outer = request_id.begin("outer")
    with request_id.handling(request_id.Mark("inner", 0.0)):
        inner = request_id.current()
        assert inner is not None
        assert inner.id == "inner"
    assert request_id.current() is outer
    request_id.resume(None)
    assert request_id.current() is None


def test_an_unforeseen_error_outside_of_a_request_has_an_id_too(caplog: pytest.LogCaptureFixture) -> None:
    from service.engine import as_refusal

    request_id.resume(None)
    refusal = as_refusal(ValueError("x"))
    assert isinstance(refusal, TinyVLAError)
    assert caplog.records[-1].getMessage().split()[-1] in refusal.detail
