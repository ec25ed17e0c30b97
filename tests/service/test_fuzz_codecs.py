"""No body, however broken, gets anything but a refusal of ours out of a decoder."""

from __future__ import annotations

import contextlib

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policy.errors import TinyVLAError
from service.wire import json_codec, msgpack_codec, multipart_codec, zmq_frames
from service.wire.images import PixelBudget, decode_image, encode_image
from service.wire.messages import ActRequest
from service.wire.request_map import FIELDS

fuzz = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
_leaf = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary()
_tree = st.recursive(_leaf, lambda t: st.lists(t) | st.dictionaries(st.text(), t), max_leaves=12)
_form = st.fixed_dictionaries(
    {},
    optional={
        "nd": st.booleans(),
        "f": st.integers(-2, 3),
        "enc": st.sampled_from(["jpeg", "png", "webp"]) | _leaf,
        "dtype": st.sampled_from(["<f4", "|u1", "|O", "float32"]) | _leaf,
        "shape": st.lists(st.integers(-1, 2**40) | _leaf, max_size=6) | _leaf,
        "data": st.binary(max_size=40) | _leaf,
        "jpeg": _leaf,
    },
)
_map = st.dictionaries(
    st.sampled_from(FIELDS) | st.text(max_size=5), _tree | _form | st.dictionaries(st.text(max_size=3), _form)
)


def _mutated(data: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    out = bytearray(data)
    for at, length, replacement in edits:
        start = at % (len(out) + 1)
        out[start : start + length] = replacement
    return bytes(out)


_edits = st.lists(
    st.tuples(st.integers(0, 10**6), st.integers(0, 6), st.binary(max_size=6)), min_size=1, max_size=4
)


@fuzz
@given(_map)
def test_any_map_is_read_or_refused(fields: dict) -> None:
    # What MessagePack itself cannot hold, such as lone surrogates, cannot arrive in it either.
    with contextlib.suppress(TinyVLAError, UnicodeEncodeError):
        msgpack_codec.decode_request(msgpack.packb(fields))
    with contextlib.suppress(TinyVLAError, UnicodeEncodeError):
        header = msgpack.packb({"v": 1, "op": "act", "id": 1, **fields})
        zmq_frames.decode_request(zmq_frames.decode_call([header, b"\0" * 16, b""]))


@fuzz
@given(_edits)
def test_mutated_bodies_are_read_or_refused(request_: ActRequest, edits: list) -> None:
    with contextlib.suppress(TinyVLAError):
        json_codec.decode_request(_mutated(json_codec.encode_request(request_, image_format="jpeg"), edits))
    with contextlib.suppress(TinyVLAError):
        msgpack_codec.decode_request(
            _mutated(msgpack_codec.encode_request(request_, image_format="png"), edits)
        )
    form, content_type = multipart_codec.encode_request(request_)
    with contextlib.suppress(TinyVLAError):
        multipart_codec.decode_request(_mutated(form, edits), content_type)
    with contextlib.suppress(TinyVLAError):
        multipart_codec.decode_request(form, _mutated(content_type.encode(), edits).decode("latin-1"))
    frames = [bytes(frame) for frame in zmq_frames.encode_request(request_, 1)]
    with contextlib.suppress(TinyVLAError):
        zmq_frames.decode_request(zmq_frames.decode_call([_mutated(frames[0], edits), *frames[1:]]))


@fuzz
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused_and_errors_never_raise(body: bytes) -> None:
    for codec in (json_codec, msgpack_codec):
        with contextlib.suppress(TinyVLAError):
            codec.decode_request(body)
        with contextlib.suppress(TinyVLAError):
            codec.decode_reply(body)
        assert isinstance(codec.decode_error(body), TinyVLAError)
    with contextlib.suppress(TinyVLAError):
        zmq_frames.decode_reply(zmq_frames.decode_answer([body]))


@fuzz
@given(_edits, st.sampled_from(["jpeg", "png"]))
def test_mutated_images_are_read_or_refused(request_: ActRequest, edits: list, kind: str) -> None:
    good = encode_image(request_.observation.images["corner4"], kind)  # type: ignore[arg-type]
    with contextlib.suppress(TinyVLAError):
        decode_image(_mutated(good, edits), None, "images.c", PixelBudget())


def test_the_pixel_limit_holds_for_all_images_of_a_request_together(request_: ActRequest) -> None:
    image = request_.observation.images["corner4"]
    budget = PixelBudget(image.shape[0] * image.shape[1] * 2)
    data = encode_image(image, "png")
    for _ in range(2):
        decode_image(data, "png", "images.c", budget)
    with pytest.raises(TinyVLAError) as refusal:
        decode_image(data, "png", "images.c", budget)
    assert refusal.value.code == "too_large"
