"""Each bad input gets its code, its field and what was expected, on both doors."""

from __future__ import annotations

import base64
import io
import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import httpx
import msgpack
import numpy as np
import pytest
from PIL import Image

from policy.errors import STATUS_BY_CODE, TinyVLAError
from service.act_exchange import ActExchange
from service.dropin.aliases import Aliases
from service.engine import Engine
from service.wire import json_codec, msgpack_codec, multipart_codec, zmq_frames
from service.wire.messages import ActRequest

JSON = {"content-type": "application/json"}
MSGPACK = {"content-type": "application/msgpack"}


def picture(kind: str, mode: str = "RGB", size: tuple[int, int] = (8, 6)) -> bytes:
    out = io.BytesIO()
    Image.new(mode, size).save(out, kind)
    return out.getvalue()


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def raw(value: np.ndarray) -> dict[str, Any]:
    return {"data": b64(value.tobytes()), "shape": list(value.shape), "dtype": value.dtype.name}


def image(form: object) -> Callable[[dict], object]:
    """Put `form` where the first camera's image was."""
    return lambda body: body["images"].update(corner4=form)


def put(**fields: object) -> Callable[[dict], object]:
    return lambda body: body.update(fields)


def rename_camera(body: dict) -> None:
    body["images"]["wrist"] = body["images"].pop("topview")


BOMB = picture("PNG", "1", (9000, 9000))  # 10 kB of one colour, 240 MB decoded
NAN = float("nan")

# What is done to a good JSON body -> the code, the field.
JSON_TABLE: dict[str, tuple[Callable[[dict], object], str, str]] = {
    "camera of the wrong name": (rename_camera, "contract_mismatch", "images"),
    "camera missing": (lambda b: b["images"].pop("topview"), "contract_mismatch", "images"),
    "no images at all": (lambda b: b.pop("images"), "malformed", "images"),
    "images as a list": (put(images=[1]), "malformed", "images"),
    "NaN in the state": (put(state=[0, NAN, 0, 0]), "contract_mismatch", "state"),
    "infinity in the state": (put(state=[0, 0, float("inf"), 0]), "contract_mismatch", "state"),
    "a state beyond float32": (put(state=[0, 0, 1e300, 0]), "contract_mismatch", "state"),
    "a state of the wrong length": (put(state=[0, 0, 0]), "contract_mismatch", "state"),
    "null in the state": (put(state=[0, None, 0, 0]), "malformed", "state"),
    "text in the state": (put(state=["1", "2", "3", "4"]), "malformed", "state"),
    "a ragged state": (put(state=[[1], [1, 2]]), "malformed", "state"),
    "a state of booleans": (put(state=[True] * 4), "malformed", "state"),
    "a state of huge integers": (put(state=[10**400] * 4), "malformed", "state"),
    "a single number as state": (put(state=1.0), "malformed", "state"),
    "no state": (lambda b: b.pop("state"), "malformed", "state"),
    "an unknown field": (put(ddim_step=10), "malformed", "ddim_step"),
    "ddim_steps of zero": (put(ddim_steps=0), "contract_mismatch", "ddim_steps"),
    "ddim_steps beyond training": (put(ddim_steps=101), "contract_mismatch", "ddim_steps"),
    "ddim_steps as text": (put(ddim_steps="10"), "malformed", "ddim_steps"),
    "ddim_steps as a fraction": (put(ddim_steps=2.5), "malformed", "ddim_steps"),
    "ddim_steps as a boolean": (put(ddim_steps=True), "malformed", "ddim_steps"),
    "an unknown sampler": (put(sampler="euler"), "malformed", "sampler"),
    "no samples": (put(samples=0), "contract_mismatch", "samples"),
    "too many samples": (put(samples=33), "contract_mismatch", "samples"),
    "a negative seed": (put(seed=-1), "malformed", "seed"),
    "a seed beyond 64 bits": (put(seed=2**64), "malformed", "seed"),
    "a seq beyond 64 bits": (put(seq=2**70), "malformed", "seq"),
    "a prefix too long": (put(prefix=[[0.0] * 4] * 33), "contract_mismatch", "prefix"),
    "a prefix too narrow": (put(prefix=[[0.0] * 3]), "contract_mismatch", "prefix"),
    "NaN in the prefix": (put(prefix=[[NAN] * 4]), "contract_mismatch", "prefix"),
    "a prefix whose mean overflows": (put(prefix=[[3e38] * 4]), "contract_mismatch", "prefix"),
    "an unknown sensor": (put(sensors={"oct": [[1.0]]}), "contract_mismatch", "sensors.oct"),
    "a window of the wrong channels": (put(sensors={"force": [[1.0]]}), "contract_mismatch", "sensors.force"),
    "a window too long": (put(sensors={"force": [[1.0, 1.0]] * 6}), "contract_mismatch", "sensors.force"),
    "NaN in a window": (put(sensors={"force": [[NAN, 1.0]]}), "contract_mismatch", "sensors.force"),
    "an unknown policy": (put(policy="other"), "unknown_policy", "policy"),
    "instruction as a number": (put(instruction=3), "malformed", "instruction"),
    "an endless instruction": (put(instruction="a" * 5000), "malformed", "instruction"),
    "a session no text can hold": (put(session="\ud800"), "malformed", "session"),
    "NaN as deadline": (put(deadline_ms=NAN), "malformed", "deadline_ms"),
    "another policy expected": (put(expects="0" * 64), "contract_mismatch", "expects"),
    "too little of a hash expected": (put(expects="0123"), "malformed", "expects"),
    "a hash as a number": (put(expects=123456789012), "malformed", "expects"),
    "features from the future": (put(vl_max_age_ms=-1), "malformed", "vl_max_age_ms"),
    "features of infinite age": (put(vl_max_age_ms=float("inf")), "malformed", "vl_max_age_ms"),
    "a deadline already over": (put(deadline_ms=0), "deadline_exceeded", "deadline_ms"),
    "an image as text": (image("abc"), "malformed", "images.corner4"),
    "an image in another format": (image({"gif": b64(picture("GIF"))}), "malformed", "images.corner4"),
    "a GIF called JPEG": (image({"jpeg": b64(picture("GIF"))}), "malformed", "images.corner4"),
    "a PNG called JPEG": (image({"jpeg": b64(picture("PNG"))}), "malformed", "images.corner4"),
    "a JPEG cut short": (image({"jpeg": b64(picture("JPEG")[:300])}), "malformed", "images.corner4"),
    "a PNG cut short": (image({"png": b64(picture("PNG")[:40])}), "malformed", "images.corner4"),
    "an image that is no base64": (image({"jpeg": "%%%"}), "malformed", "images.corner4.jpeg"),
    "a PNG of 16 bits": (image({"png": b64(picture("PNG", "I;16"))}), "unsupported_media", "images.corner4"),
    "a decompression bomb": (image({"png": b64(BOMB)}), "too_large", "images.corner4"),
    "a raw image of floats": (
        image(raw(np.zeros((4, 4, 3), np.float32))),
        "contract_mismatch",
        "images.corner4",
    ),
    "a raw image of one channel": (
        image(raw(np.zeros((4, 4), np.uint8))),
        "contract_mismatch",
        "images.corner4",
    ),
    "an empty image": (image(raw(np.zeros((0, 4, 3), np.uint8))), "contract_mismatch", "images.corner4"),
    "raw data of another size": (
        image({"data": b64(b"123"), "shape": [2, 2, 3], "dtype": "uint8"}),
        "malformed",
        "images.corner4",
    ),
    "a shape with negative sizes": (
        image({"data": b64(b"12"), "shape": [-1, -2], "dtype": "uint8"}),
        "malformed",
        "images.corner4",
    ),
    "nothing, in an endless shape": (
        put(state={"data": "", "shape": [0, 2**62, 2**62], "dtype": "float32"}),
        "malformed",
        "state",
    ),
    "a shape of more bytes than can be said": (
        put(state={"data": "", "shape": [10**4000] * 2, "dtype": "float32"}),
        "malformed",
        "state",
    ),
    "an array of objects": (
        put(state={"data": b64(b"12345678"), "shape": [1], "dtype": "|O"}),
        "malformed",
        "state",
    ),
    "a dtype of records": (
        put(state={"data": b64(b"12345678"), "shape": [1], "dtype": "f4,O"}),
        "malformed",
        "state",
    ),
    "a big-endian array": (
        put(state={"data": b64(b"1234"), "shape": [1], "dtype": ">f4"}),
        "malformed",
        "state",
    ),
}


def test_a_long_text_among_numbers_takes_no_more_memory_than_it_is_long() -> None:
    body = json.dumps({"images": {}, "state": ["a" * 10_000, *[0.0] * 10_000]}).encode()
    tracemalloc.start()
    try:
        with pytest.raises(TinyVLAError, match="numbers only"):
            json_codec.decode_request(body)
        assert tracemalloc.get_traced_memory()[1] < 10 * len(body)
    finally:
        tracemalloc.stop()


def told(response: httpx.Response) -> dict[str, Any]:
    """The problem, checked for what every problem has."""
    if response.headers["content-type"] == "application/msgpack":
        problem = msgpack.unpackb(response.content)
    else:
        assert response.headers["content-type"] == "application/problem+json"
        problem = response.json()
    assert problem["status"] == response.status_code == STATUS_BY_CODE[problem["code"]]
    assert problem["type"] == f"urn:tinyvla:{problem['code']}"
    assert problem["title"]
    assert "\n" not in problem["detail"]
    assert "Traceback" not in response.text
    return problem


@pytest.mark.parametrize("case", JSON_TABLE)
def test_json_is_refused_with_code_and_field(case: str, http: httpx.Client, request_: ActRequest) -> None:
    spoil, code, field = JSON_TABLE[case]
    body = json.loads(json_codec.encode_request(request_))
    spoil(body)
    problem = told(http.post("/act", content=json.dumps(body), headers=JSON))
    assert (problem["code"], problem["field"]) == (code, field)
    if code == "contract_mismatch":
        assert problem["expected"]
        assert problem["actual"]


def test_a_camera_of_the_wrong_name_says_which_were_expected(
    http: httpx.Client, request_: ActRequest
) -> None:
    body = json.loads(json_codec.encode_request(request_))
    rename_camera(body)
    problem = told(http.post("/act", content=json.dumps(body), headers=JSON))
    assert problem["expected"] == "cameras ['corner4', 'topview']"
    assert problem["actual"] == "cameras ['corner4', 'wrist']"


def test_an_unknown_field_is_told_with_the_one_that_was_meant(
    http: httpx.Client, request_: ActRequest
) -> None:
    body = json.loads(json_codec.encode_request(request_)) | {"ddim_step": 3}
    assert "ddim_steps" in told(http.post("/act", content=json.dumps(body), headers=JSON))["expected"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"hello",
        b"[]",
        b"1",
        b"null",
        b'"x"',
        b"\xff\xfe",
        b"[" * 20_000,
        b'{"a":' * 5_000,
        b"9" * 9999,
    ],
    ids=lambda body: repr(body[:8]),
)
@pytest.mark.parametrize("headers", [JSON, MSGPACK], ids=["json", "msgpack"])
def test_a_body_that_does_not_parse_is_malformed(http: httpx.Client, body: bytes, headers: dict) -> None:
    problem = told(http.post("/act", content=body, headers=headers))
    assert (problem["code"], problem["field"]) == ("malformed", "body")


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"[" * 20_001, JSON),
        (b'{"a":' * 5_001, JSON),
        (b"[" + b"0," * 200_001 + b"0]", JSON),
        (json.dumps({"encoded": "[" * 20_001}).encode(), JSON),
        (msgpack.packb([0] * 200_001), MSGPACK),
        (msgpack.packb([[[0]]] * 70_000), MSGPACK),
        (msgpack.packb({str(i): {} for i in range(5_000)}), MSGPACK),
    ],
    ids=lambda value: repr(value)[:12],
)
def test_a_body_that_would_hold_up_everybody_while_it_is_read_is_too_large(
    http: httpx.Client, body: bytes, headers: dict
) -> None:
    problem = told(http.post("/act", content=body, headers=headers))
    assert (problem["code"], problem["field"]) == ("too_large", "body")


@pytest.mark.parametrize(
    "form",
    [
        msgpack.ExtType(1, b"x"),
        msgpack.Timestamp(1),
        {"nd": True, "dtype": "|O", "shape": [1], "data": b"12345678"},
        {"nd": True, "dtype": "<f4", "shape": [4], "data": "text"},
        {"nd": False, "dtype": "<f4", "shape": [1], "data": b"1234"},
        {"nd": True, "dtype": "<f4", "shape": [2**40, 2**40], "data": b"1234"},
        {b"nd": True, b"type": "|O", b"data": b"cos\nsystem\n(S'true'\ntR."},
    ],
    ids=str,
)
def test_odd_messagepack_values_are_malformed(http: httpx.Client, request_: ActRequest, form: object) -> None:
    body = msgpack.unpackb(msgpack_codec.encode_request(request_)) | {"state": form}
    problem = told(http.post("/act", content=msgpack.packb(body), headers=MSGPACK))
    assert (problem["code"], problem["field"]) == ("malformed", "state")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "application/octet-stream"},
        JSON | {"content-encoding": "gzip"},
    ],
    ids=str,
)
def test_other_content_types_are_unsupported(http: httpx.Client, headers: dict) -> None:
    assert told(http.post("/act", content=b"{}", headers=headers))["code"] == "unsupported_media"


def _form(parts: list[tuple[str, bytes]], end: bytes = b"--b--\r\n") -> bytes:
    pieces = [
        b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (name.encode(), data)
        for name, data in parts
    ]
    return b"".join(pieces) + end


_PAYLOAD = ("payload", b'{"state": [0, 0, 0, 0]}')
_JPEG = picture("JPEG")


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        (b"", "malformed", "body"),
        (b"no form", "malformed", "body"),
        (_form([_PAYLOAD], end=b""), "malformed", "body"),
        (_form([("corner4", _JPEG)]), "malformed", "payload"),
        (_form([("payload", b"{"), ("corner4", _JPEG)]), "malformed", "body"),
        (_form([_PAYLOAD, ("corner4", _JPEG), ("corner4", _JPEG)]), "malformed", "corner4"),
        (_form([("payload", b'{"images": {}, "state": []}')]), "malformed", "images"),
        (_form([_PAYLOAD, ("corner4", picture("GIF"))]), "unsupported_media", "images.corner4"),
        (_form([_PAYLOAD, ("corner4", _JPEG), ("topview", BOMB)]), "too_large", "images.topview"),
        (_form([_PAYLOAD, ("corner4", _JPEG), ("wrist", _JPEG)]), "contract_mismatch", "images"),
        (_form([_PAYLOAD] + [(f"c{i}", _JPEG) for i in range(70)]), "malformed", "body"),
    ],
)
def test_forms_are_refused_with_code_and_field(
    http: httpx.Client, body: bytes, code: str, field: str
) -> None:
    headers = {"content-type": "multipart/form-data; boundary=b"}
    problem = told(http.post("/act", content=body, headers=headers))
    assert (problem["code"], problem["field"]) == (code, field)


def test_a_form_without_a_boundary_is_malformed(http: httpx.Client) -> None:
    problem = told(http.post("/act", content=b"x", headers={"content-type": multipart_codec.CONTENT_TYPE}))
    assert problem["code"] == "malformed"


def _spoil_header(**fields: object) -> Callable[[list[bytes]], None]:
    def spoil(frames: list[bytes]) -> None:
        frames[0] = msgpack.packb(msgpack.unpackb(frames[0]) | fields)

    return spoil


ZMQ_TABLE: dict[str, tuple[Callable[[list], object], str, str]] = {
    "a header that is no MessagePack": (lambda f: f.__setitem__(0, b"\xc1"), "malformed", "header"),
    "a header that is no map": (lambda f: f.__setitem__(0, msgpack.packb([1])), "malformed", "header"),
    "a header too large": (lambda f: f.__setitem__(0, b"x" * 2**21), "too_large", "header"),
    "a header of many values": (_spoil_header(state=[0] * 10_001), "too_large", "header"),
    "another version": (_spoil_header(v=2), "malformed", "v"),
    "no such operation": (_spoil_header(op="kill"), "malformed", "op"),
    "an id that is no integer": (_spoil_header(id="1"), "malformed", "id"),
    "frames missing": (lambda f: f.__delitem__(slice(1, None)), "malformed", "prefix.f"),
    "a frame cut short": (lambda f: f.__setitem__(1, f[1][:-1]), "malformed", "state"),
    "an array of objects": (
        _spoil_header(state={"f": 0, "dtype": "|O", "shape": [4]}),
        "malformed",
        "state",
    ),
    "a frame index below zero": (
        _spoil_header(state={"f": -1, "dtype": "<f4", "shape": [4]}),
        "malformed",
        "state.f",
    ),
    "an image in another format": (
        _spoil_header(images={"corner4": {"f": 0, "enc": "webp"}}),
        "unsupported_media",
        "images.corner4",
    ),
    "a camera of the wrong name": (_spoil_header(images={}), "contract_mismatch", "images"),
    "NaN in the state": (_spoil_header(state=[NAN] * 4), "contract_mismatch", "state"),
    "an unknown field": (_spoil_header(extra=1), "malformed", "extra"),
    "ddim_steps beyond training": (_spoil_header(ddim_steps=500), "contract_mismatch", "ddim_steps"),
    "too many frames": (lambda f: f.extend([b"x"] * 200), "malformed", "message"),
}


@pytest.mark.parametrize("case", ZMQ_TABLE)
def test_zeromq_refuses_with_code_and_field(case: str, dealer: Any, request_: ActRequest) -> None:
    spoil, code, field = ZMQ_TABLE[case]
    frames = [bytes(frame) for frame in zmq_frames.encode_request(request_, 17)]
    spoil(frames)
    answer = dealer.ask(frames)
    assert answer.error is not None
    assert (answer.error.code, answer.error.field) == (code, field)
    unread = ("header that", "header too", "header of", "id that")
    assert answer.id == (None if any(words in case for words in unread) else 17)
    assert zmq_frames.decode_reply(dealer.ask(zmq_frames.encode_request(request_, 18))).horizon == 48


@pytest.mark.parametrize(
    ("op", "fields", "code", "field"),
    [
        ("spec", {"policy": "other"}, "unknown_policy", "policy"),
        ("spec", {"policy": 1}, "malformed", "policy"),
        ("reset", {"session": 1}, "malformed", "session"),
        ("ping", {"session": "a"}, "malformed", "session"),
    ],
)
def test_zeromq_small_talk_is_checked_too(dealer: Any, op: str, fields: dict, code: str, field: str) -> None:
    error = dealer.ask(zmq_frames.encode_call(op, 1, fields=fields)).error
    assert error is not None
    assert (error.code, error.field) == (code, field)


def test_paths_and_methods_that_do_not_exist_get_a_problem_too(http: httpx.Client) -> None:
    for response, status in ((http.get("/nope"), 404), (http.get("/act"), 405), (http.post("/healthz"), 405)):
        assert response.status_code == status == response.json()["status"]
        assert response.headers["content-type"] == "application/problem+json"
    problem = told(http.get("/policies/other"))
    assert (problem["code"], problem["actual"]) == ("unknown_policy", "other")


def test_a_body_of_many_values_is_read_beside_the_loop_that_every_client_waits_for(
    request_: ActRequest,
) -> None:
    exchange = ActExchange(MSGPACK, Engine(), Aliases({}))
    assert not exchange.is_quick_to_read(msgpack.packb({"state": [[0.0]] * 100_000}))
    assert exchange.is_quick_to_read(msgpack_codec.encode_request(request_))
