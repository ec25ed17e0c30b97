"""The HTTP door: encodings and their negotiation, probes, metrics, tokens, limits, and health under load."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import pytest

from policy.null import NullPolicy
from policy.spec import PolicySpec
from service.running import RunningServer
from service.wire import json_codec, msgpack_codec, multipart_codec
from service.wire.images import encode_image
from service.wire.messages import ActReply, ActRequest

PATIENCE_S = 20.0
JSON, MSGPACK = json_codec.CONTENT_TYPE, msgpack_codec.CONTENT_TYPE


def post(
    client: httpx.Client, request: ActRequest, *, media: str = MSGPACK, **headers: str
) -> httpx.Response:
    codec = json_codec if media == JSON else msgpack_codec
    return client.post(
        "/act", content=codec.encode_request(request), headers={"content-type": media, **headers}
    )


def read(response: httpx.Response) -> ActReply:
    assert response.status_code == 200, response.text
    codec = json_codec if response.headers["content-type"] == JSON else msgpack_codec
    return codec.decode_reply(response.content)


def test_every_encoding_gives_the_same_chunk_for_the_same_request(
    http: httpx.Client, request_: ActRequest
) -> None:
    form, content_type = multipart_codec.encode_request(request_)
    replies = [
        read(post(http, request_, media=JSON)),
        read(post(http, request_, media=MSGPACK)),
        read(http.post("/act", content=form, headers={"content-type": content_type})),
    ]
    for reply in replies:
        np.testing.assert_array_equal(reply.actions, replies[0].actions)
        assert (reply.session, reply.seq, reply.timestamp_ns) == ("arm-1", 5, request_.timestamp_ns)
        assert (reply.ddim_steps, reply.sampler, reply.seed) == (7, "ddim", 11)
        assert reply.uncertainty is not None


def test_a_form_as_curl_sends_it_is_served(http: httpx.Client, request_: ActRequest) -> None:
    images = request_.observation.images
    files = {
        name: (f"{name}.jpg", encode_image(image, "jpeg"), "image/jpeg") for name, image in images.items()
    }
    payload = json.dumps({"state": [0.1, 0.2, 0.3, 0.4], "instruction": "go", "seed": 3})
    response = http.post("/act", data={"payload": payload}, files=files)
    assert response.headers["content-type"] == JSON
    assert read(response).seed == 3


def test_json_actions_are_nested_lists(http: httpx.Client, request_: ActRequest) -> None:
    body = post(http, request_, media=JSON).json()
    assert (len(body["actions"]), len(body["actions"][0])) == (48, 4)
    assert set(body["timing_ms"]) == {"decode", "queue", "encode", "sample", "total", "batch"}


@pytest.mark.parametrize(
    ("media", "accept", "answered"),
    [
        (JSON, "*/*", JSON),
        (MSGPACK, "*/*", MSGPACK),
        (JSON, MSGPACK, MSGPACK),
        (MSGPACK, JSON, JSON),
        (MSGPACK, "application/msgpack;q=0.1, application/json;q=0.9", JSON),
        (MSGPACK, "text/html", MSGPACK),
        (JSON, "application/json, application/msgpack", JSON),
    ],
)
def test_the_reply_comes_in_the_encoding_asked_for(
    http: httpx.Client, request_: ActRequest, media: str, accept: str, answered: str
) -> None:
    assert post(http, request_, media=media, accept=accept).headers["content-type"] == answered
    wrong = replace(request_, policy="other")
    refusal = post(http, wrong, media=media, accept=accept)
    assert refusal.status_code == 404
    expected = json_codec.PROBLEM_CONTENT_TYPE if answered == JSON else MSGPACK
    assert refusal.headers["content-type"] == expected
    codec = json_codec if answered == JSON else msgpack_codec
    assert codec.decode_error(refusal.content).code == "unknown_policy"


def test_the_policy_tells_its_contract(http: httpx.Client, everything: PolicySpec) -> None:
    listed = http.get("/policies").json()
    assert listed["active"] == everything.label
    assert [p["hash"] for p in listed["policies"]] == [everything.hash]
    for name in ("null", everything.label):
        assert PolicySpec.model_validate(http.get(f"/policies/{name}").json()) == everything


def test_readiness_waits_for_warm_up_and_health_does_not(
    everything: PolicySpec, request_: ActRequest
) -> None:
    load = threading.Event()

    class SlowToWarm(NullPolicy):
        def predict(self, *args: Any) -> Any:
            assert load.wait(PATIENCE_S)
            return super().predict(*args)

    server = RunningServer(lambda: SlowToWarm(everything))
    server.start()
    try:
        with httpx.Client(base_url=server.http_url, timeout=PATIENCE_S) as client:
            assert client.get("/healthz").status_code == 200
            for refused in (
                client.get("/readyz"),
                client.get("/policies"),
                post(client, request_, media=JSON),
            ):
                assert refused.status_code == 503
                assert refused.json()["code"] == "not_ready"
            load.set()
            server.ready.result(PATIENCE_S)
            assert client.get("/readyz").json() == {"status": "ready", "policy": everything.label}
            assert read(post(client, request_))
    finally:
        load.set()
        server.stop()


def test_health_answers_while_a_run_is_in_progress(
    held_server: RunningServer, held: Any, request_: ActRequest
) -> None:
    with (
        ThreadPoolExecutor(1) as pool,
        httpx.Client(base_url=held_server.http_url, timeout=PATIENCE_S) as client,
    ):
        running = pool.submit(post, client, request_)
        held.await_run()
        for path in ("/healthz", "/readyz", "/metrics", "/policies"):
            assert client.get(path).status_code == 200
        assert not running.done()
        held.go.set()
        assert read(running.result(PATIENCE_S))


def test_health_answers_while_an_image_is_decoded(
    http: httpx.Client, request_: ActRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoding, go = threading.Event(), threading.Event()
    real = json_codec.decode_image

    def held_decode(*args: Any) -> np.ndarray:
        decoding.set()
        assert go.wait(PATIENCE_S)
        return real(*args)

    monkeypatch.setattr(json_codec, "decode_image", held_decode)
    body = json_codec.encode_request(request_, image_format="jpeg")
    with ThreadPoolExecutor(1) as pool:
        sent = pool.submit(http.post, "/act", content=body, headers={"content-type": JSON})
        assert decoding.wait(PATIENCE_S)
        assert http.get("/healthz").status_code == 200
        assert not sent.done()
        go.set()
        assert read(sent.result(PATIENCE_S))


@pytest.fixture
def in_background(held_server: RunningServer) -> Iterator[Callable[[ActRequest], Any]]:
    """Posts requests without waiting for their answers, and returns once the engine has each."""
    with ThreadPoolExecutor(8) as pool:

        def send(request: ActRequest) -> Any:
            taken = threading.Event()
            engine = held_server.engine
            submit = engine.submit

            def noticed(*args: Any, **kwargs: Any) -> Any:
                try:
                    return submit(*args, **kwargs)
                finally:
                    taken.set()

            engine.submit = noticed  # type: ignore[method-assign]
            url = f"{held_server.http_url}/act"
            body, headers = msgpack_codec.encode_request(request), {"content-type": MSGPACK}
            answer = pool.submit(httpx.post, url, content=body, headers=headers, timeout=PATIENCE_S)
            assert taken.wait(PATIENCE_S)
            engine.submit = submit  # type: ignore[method-assign]
            return answer

        yield send


def test_overload_and_supersession_are_answered_while_the_run_goes_on(
    held_server: RunningServer, held: Any, request_: ActRequest, in_background: Callable[[ActRequest], Any]
) -> None:
    plain = replace(request_, session=None)
    running = in_background(plain)
    held.await_run()
    old = in_background(replace(request_, seq=1))
    new = in_background(replace(request_, seq=2))
    superseded = old.result(PATIENCE_S)
    assert superseded.status_code == 409
    assert msgpack_codec.decode_error(superseded.content).code == "superseded"
    waiting = [in_background(plain) for _ in range(2)]
    refused = in_background(plain).result(PATIENCE_S)
    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) >= 1
    assert msgpack_codec.decode_error(refused.content).code == "overloaded"
    held.go.set()
    assert all(read(answer.result(PATIENCE_S)) for answer in (running, new, *waiting))
    text = httpx.get(f"{held_server.http_url}/metrics").text
    for line in (
        'tinyvla_requests_total{code="ok",door="http"} 4.0',
        'tinyvla_requests_total{code="superseded",door="http"} 1.0',
        'tinyvla_requests_total{code="overloaded",door="http"} 1.0',
        "tinyvla_superseded_total 1.0",
        "tinyvla_deadline_missed_total 0.0",
        "tinyvla_queue_depth 0.0",
        'tinyvla_stage_seconds_count{stage="queue"} 4.0',
        f'tinyvla_policy_info{{device="cpu",policy="{held.spec.label}",runtime="null"}} 1.0',
    ):
        assert line in text
    assert sum(held.batches) == 4


def test_a_token_locks_everything_but_the_probes(everything: PolicySpec, request_: ActRequest) -> None:
    with (
        RunningServer(lambda: NullPolicy(everything), token="s3cret") as server,
        httpx.Client(base_url=server.http_url, timeout=PATIENCE_S) as client,
    ):
        for path in ("/healthz", "/readyz"):
            assert client.get(path).status_code == 200
        for given in (None, "Bearer wrong", "Bearer s3cre\u00e9", "Basic s3cret", "Bearer", "s3cret"):
            headers = [] if given is None else [(b"authorization", given.encode("latin-1"))]
            for path in ("/policies", "/policies/null", "/metrics", "/openapi.json"):
                assert client.get(path, headers=headers).status_code == 401
            refused = client.post("/act", content=b"{}", headers=[*headers, (b"content-type", JSON.encode())])
            assert refused.json()["code"] == "unauthorized"
            assert refused.headers["www-authenticate"] == "Bearer"
        right = {"authorization": "Bearer s3cret"}
        assert client.get("/policies", headers=right).status_code == 200
        assert read(post(client, request_, **right))


@pytest.mark.parametrize("chunked", [False, True], ids=["length told", "length untold"])
def test_a_body_beyond_the_limit_is_too_large(everything: PolicySpec, chunked: bool) -> None:
    body = b"x" * 300_000
    with RunningServer(lambda: NullPolicy(everything), max_body=100_000) as server:
        response = httpx.post(
            f"{server.http_url}/act",
            content=iter([body[:150_000], body[150_000:]]) if chunked else body,
            headers={"content-type": JSON},
            timeout=PATIENCE_S,
        )
    assert response.status_code == 413
    assert response.json()["code"] == "too_large"


def test_the_openapi_document_tells_every_field_of_a_request(http: httpx.Client) -> None:
    from service.wire.request_map import FIELDS

    document = http.get("/openapi.json").json()
    act = document["paths"]["/act"]["post"]
    schema = act["requestBody"]["content"][JSON]["schema"]["anyOf"][0]
    assert set(schema["properties"]) == set(FIELDS)
    assert set(act["requestBody"]["content"]) == {JSON, MSGPACK, multipart_codec.CONTENT_TYPE}
    assert {"200", "400", "401", "403", "404", "409", "413", "415", "422", "500", "503", "504"} == set(
        act["responses"]
    )
    described = {"/act", "/healthz", "/readyz", "/metrics", "/policies", "/policies/{name}"}
    assert described <= set(document["paths"])


def test_stopping_drops_readiness_refuses_what_is_new_and_finishes_what_is_queued(
    held: Any, request_: ActRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = RunningServer(lambda: held)
    draining = threading.Event()
    drain = server.engine.drain
    monkeypatch.setattr(server.engine, "drain", lambda timeout: draining.set() or drain(timeout))
    with ThreadPoolExecutor(3) as pool:
        with server:
            running = pool.submit(httpx.post, f"{server.http_url}/act", **_body(request_))
            held.await_run()
            waiting = pool.submit(httpx.post, f"{server.http_url}/act", **_body(request_))
            while b"tinyvla_queue_depth 1.0" not in httpx.get(f"{server.http_url}/metrics").content:
                pass
            stopped = pool.submit(server.stop)
            assert draining.wait(PATIENCE_S)
            ready = httpx.get(f"{server.http_url}/readyz", timeout=PATIENCE_S)
            new = httpx.post(f"{server.http_url}/act", **_body(request_))
            for refused, decode in ((ready, json_codec), (new, msgpack_codec)):
                assert refused.status_code == 503
                assert decode.decode_error(refused.content).code == "not_ready"
            assert httpx.get(f"{server.http_url}/healthz", timeout=PATIENCE_S).status_code == 200
            held.go.set()
            assert read(running.result(PATIENCE_S))
            assert read(waiting.result(PATIENCE_S))
            assert stopped.result(PATIENCE_S)
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{server.http_url}/healthz", timeout=PATIENCE_S)


def _body(request: ActRequest) -> dict[str, Any]:
    content = msgpack_codec.encode_request(request)
    return {"content": content, "headers": {"content-type": MSGPACK}, "timeout": PATIENCE_S}
