"""What one side writes, the other reads back: every encoding, every field, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from policy.errors import STATUS_BY_CODE, TinyVLAError
from policy.observation import Observation, SampleOptions, check_observation, check_options
from policy.spec import PolicySpec
from service.wire import json_codec, msgpack_codec, multipart_codec, zmq_frames
from service.wire.messages import ActReply, ActRequest, Timing

quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])

_floats = st.floats(width=32, allow_nan=False, allow_infinity=False)
_int64 = st.integers(-(2**63), 2**63 - 1)
_text = st.text(st.characters(codec="utf-8"), max_size=30)
# A multipart part's name stands in a header: no quotes, no line breaks.
_name = st.text(st.characters(codec="utf-8", categories=("L", "N")), min_size=1, max_size=12)


def _maybe(strategy: st.SearchStrategy) -> st.SearchStrategy:
    return st.none() | strategy


_images = st.dictionaries(
    _name.filter(lambda name: name != "payload"),
    arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))),
    max_size=3,
)
_matrix = arrays(np.float32, array_shapes(min_dims=2, max_dims=2, max_side=6), elements=_floats)
requests = st.builds(
    ActRequest,
    observation=st.builds(
        Observation,
        images=_images,
        state=arrays(np.float32, st.integers(0, 8), elements=_floats),
        instruction=_text,
        sensors=st.dictionaries(_text, _matrix, max_size=2),
    ),
    options=st.builds(
        SampleOptions,
        ddim_steps=_maybe(_int64),
        sampler=st.sampled_from(["ddim", "ddpm"]),
        seed=_maybe(_int64),
        prefix=_maybe(_matrix),
        samples=_int64,
    ),
    policy=_maybe(_text),
    session=_maybe(_text),
    seq=_maybe(_int64),
    timestamp_ns=_maybe(_int64),
    deadline_ms=_maybe(st.floats(allow_nan=False, allow_infinity=False)),
    expects=_maybe(_text),
    vl_max_age_ms=_maybe(st.floats(0, 1e9)),
)
replies = st.builds(
    ActReply,
    actions=_matrix,
    rate_hz=st.floats(1, 1000),
    horizon=st.integers(1, 100),
    policy=_text,
    ddim_steps=st.integers(1, 100),
    sampler=st.sampled_from(["ddim", "ddpm"]),
    seed=st.integers(0, 2**63 - 1),
    timing_ms=st.builds(
        Timing,
        **{k: st.floats(0, 1e6) for k in ("decode", "queue", "encode", "sample", "total")},
        batch=_int64,
    ),
    uncertainty=_maybe(arrays(np.float32, st.integers(1, 6), elements=_floats)),
    vl_age_ms=_maybe(st.floats(0, 1e9)),
    session=_maybe(_text),
    seq=_maybe(_int64),
    timestamp_ns=_maybe(_int64),
)


def same(one: Any, other: Any) -> bool:
    """Equal, arrays within included, with their dtypes."""
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if hasattr(one, "__dataclass_fields__"):
        return all(same(getattr(one, key), getattr(other, key)) for key in one.__dataclass_fields__)
    return bool(one == other)


@quick
@given(requests, st.sampled_from(["raw", "png"]))
def test_json_carries_a_request_unchanged(request_: ActRequest, images: Any) -> None:
    body = json_codec.encode_request(request_, image_format=images)
    assert same(request_, json_codec.decode_request(body))


@quick
@given(requests, st.sampled_from(["raw", "png"]))
def test_messagepack_carries_a_request_unchanged(request_: ActRequest, images: Any) -> None:
    body = msgpack_codec.encode_request(request_, image_format=images)
    assert same(request_, msgpack_codec.decode_request(body))


@quick
@given(requests)
def test_multipart_carries_a_request_unchanged(request_: ActRequest) -> None:
    body, content_type = multipart_codec.encode_request(request_)
    assert same(request_, multipart_codec.decode_request(body, content_type))


@quick
@given(requests, _int64, _maybe(_text), st.sampled_from(["raw", "png"]))
def test_zeromq_carries_a_request_unchanged(
    request_: ActRequest, call_id: int, token: str | None, images: Any
) -> None:
    frames = zmq_frames.encode_request(request_, call_id, token=token, image_format=images)
    call = zmq_frames.decode_call([bytes(frame) for frame in frames])
    assert (call.op, call.id, call.token) == ("act", call_id, token)
    assert same(request_, zmq_frames.decode_request(call))


@quick
@given(replies)
def test_every_encoding_carries_a_reply_unchanged(reply: ActReply) -> None:
    assert same(reply, json_codec.decode_reply(json_codec.encode_reply(reply)))
    assert same(reply, msgpack_codec.decode_reply(msgpack_codec.encode_reply(reply)))
    answer = zmq_frames.decode_answer([bytes(frame) for frame in zmq_frames.encode_reply(3, reply)])
    assert answer.id == 3
    assert same(reply, zmq_frames.decode_reply(answer))


@quick
@given(st.sampled_from(sorted(STATUS_BY_CODE)), st.text(), _maybe(st.text()))
def test_every_encoding_carries_an_error(code: str, detail: str, field: str | None) -> None:
    # st.text() includes lone surrogates, which no encoding can hold: they arrive escaped.
    error = TinyVLAError(code, detail or "x", field=field, expected="this", actual="that")
    escaped = (detail or "x").encode("utf-8", "backslashreplace").decode()
    frames = zmq_frames.encode_error(None, error)
    for read in (
        json_codec.decode_error(json_codec.encode_error(error)),
        msgpack_codec.decode_error(msgpack_codec.encode_error(error)),
        zmq_frames.decode_answer([bytes(frame) for frame in frames]).error,
    ):
        assert read is not None
        assert (read.code, read.detail, read.expected, read.actual) == (code, escaped, "this", "that")


def test_jpeg_arrives_close_to_what_was_sent() -> None:
    ramp = np.linspace(0, 255, 64).astype(np.uint8)
    image = np.stack([np.tile(ramp, (48, 1))] * 3, -1)
    request = ActRequest(Observation({"c": image}, np.zeros(1, np.float32)))
    read = json_codec.decode_request(json_codec.encode_request(request, image_format="jpeg"))
    got = read.observation.images["c"]
    assert got.shape == image.shape
    assert np.abs(got.astype(int) - image).max() <= 6


def test_zeromq_views_frames_without_a_copy() -> None:
    image = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    frames = zmq_frames.encode_request(ActRequest(Observation({"c": image}, np.zeros(2, np.float32))), 1)
    sent = [np.frombuffer(frame, np.uint8) for frame in frames[1:]]
    assert any(np.shares_memory(image, frame) for frame in sent)
    read = zmq_frames.decode_request(zmq_frames.decode_call(frames))
    assert np.shares_memory(image, read.observation.images["c"])


def test_images_are_the_last_frames_of_a_message(request_: ActRequest) -> None:
    frames = zmq_frames.encode_request(request_, 1)
    images = [image.nbytes for image in request_.observation.images.values()]
    assert [len(frame) for frame in frames[-len(images) :]] == images
    assert len(frames) > 1 + len(images)


def test_an_array_of_objects_is_never_sent() -> None:
    with pytest.raises(TinyVLAError, match="object"):
        msgpack_codec.encode_request(
            ActRequest(Observation({}, np.array([print, 1], dtype=object)))  # type: ignore[arg-type]
        )


@pytest.mark.parametrize("encoding", ["json", "form", "lists"])
def test_a_window_and_a_prefix_without_rows_are_none(encoding: str, everything: PolicySpec) -> None:
    none = np.zeros((0, 4), np.float32)
    image = np.zeros((4, 4, 3), np.uint8)
    asked = ActRequest(
        Observation(
            {c.name: image for c in everything.cameras},
            np.zeros(4, np.float32),
            sensors={"force": none[:, :2]},
        ),
        SampleOptions(prefix=none),
    )
    if encoding == "form":
        read = multipart_codec.decode_request(*multipart_codec.encode_request(asked))
    else:
        fields = json_codec.parse(json_codec.encode_request(asked))
        if encoding == "lists":
            fields |= {"prefix": [], "sensors": {"force": []}}
        read = json_codec.read_fields(fields)
    check_observation(everything, read.observation)
    check_options(everything, read.options)
