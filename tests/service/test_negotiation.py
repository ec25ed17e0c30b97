"""Content-Type and Accept, as the RFC has them."""

from __future__ import annotations

import pytest

from service.negotiation import reply_codec, request_decoder
from service.wire import json_codec, msgpack_codec


@pytest.mark.parametrize(
    ("content_type", "accept", "codec"),
    [
        ("application/json", None, json_codec),
        ("application/msgpack", None, msgpack_codec),
        ("application/x-msgpack", None, msgpack_codec),
        ("multipart/form-data; boundary=x", None, json_codec),
        (None, None, json_codec),
        ("application/msgpack", "*/*", msgpack_codec),
        ("application/msgpack", "application/*", msgpack_codec),
        ("application/json", "application/msgpack;q=0.5", msgpack_codec),
        ("application/json", "APPLICATION/MSGPACK", msgpack_codec),
        ("application/json", "application/msgpack;q=0.5, */*;q=0.6", json_codec),
        ("application/msgpack", "application/json;q=0.5, application/msgpack;q=0.4", json_codec),
        ("application/json", "application/msgpack;q=0", json_codec),
        ("application/json", "application/msgpack;q=banana", json_codec),
        ("application/msgpack", "application/problem+json", json_codec),
        ("application/msgpack", "text/html, image/*", msgpack_codec),
        ("application/msgpack", ",;=,;;q", msgpack_codec),
    ],
)
def test_the_reply_is_what_accept_likes_best_and_else_as_the_request_came(
    content_type: str | None, accept: str | None, codec: object
) -> None:
    assert reply_codec(content_type, accept) is codec


def test_parameters_and_case_of_a_content_type_do_not_matter() -> None:
    assert request_decoder("Application/JSON; charset=utf-8", None) is json_codec.decode_request
    assert request_decoder("application/vnd.msgpack", "identity") is msgpack_codec.decode_request
