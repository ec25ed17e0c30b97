"""The rig's wire: every layout to the byte, and no input that does more than raise `BadMessage`."""

from __future__ import annotations

import contextlib
import io
import json
import math
import struct

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from clients.robots.needle_rig_contract import SENSOR_CHANNELS
from clients.robots.rig_wire import (
    MAX_COMMAND,
    MAX_JPEG_BYTES,
    MAX_JSON_BYTES,
    STATE_TOPIC,
    BadMessage,
    CameraFrame,
    Command,
    RobotState,
    SensorRecords,
    decode_camera,
    decode_command,
    decode_jpeg,
    decode_sensor,
    decode_state,
    encode_camera,
    encode_command,
    encode_sensor,
    encode_state,
)

FINITE = st.floats(allow_nan=False, allow_infinity=False)
WITHIN_REACH = st.floats(-MAX_COMMAND, MAX_COMMAND)
FINITE32 = st.floats(allow_nan=False, allow_infinity=False, width=32)


def jpeg(size: tuple[int, int] = (8, 6)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, (200, 30, 30)).save(out, "JPEG")
    return out.getvalue()


def records(count: int, start: float = 100.0) -> SensorRecords:
    times = start + np.arange(count) / 650
    values = np.random.default_rng(0).normal(size=(count, SENSOR_CHANNELS)).astype(np.float32)
    return SensorRecords(times, times + 0.001, values)


def kind_of(decode, message) -> str:
    with pytest.raises(BadMessage) as caught:
        decode(message)
    assert str(caught.value)
    return caught.value.kind


def test_a_robot_state_is_the_design_s_68_bytes() -> None:
    state = RobotState(1.5, 2.5, 0.25, (1, 2, 3, 4, 5, 6), (7, 8, 9, 10, 11, 12))
    topic, payload = encode_state(state)
    assert topic == b"robot_state"
    assert payload == struct.pack("<ddf12f", 1.5, 2.5, 0.25, *range(1, 13))
    assert len(payload) == 68


def test_a_datagram_is_count_then_packed_records() -> None:
    sent = records(2)
    datagram = encode_sensor(sent)
    assert len(datagram) == 4 + 2 * (8 + 8 + 4 + 4 * 1025)
    assert struct.unpack_from("<I", datagram) == (2,)
    first = struct.unpack_from("<ddf1025f", datagram, 4)
    assert first[:2] == (sent.origin_time[0], sent.send_time[0])
    np.testing.assert_array_equal(np.float32(first[2:]), sent.values[0])


def test_fifteen_records_fit_one_udp_datagram() -> None:
    assert len(encode_sensor(records(15))) <= 65507
    with pytest.raises(ValueError, match="15 records"):
        encode_sensor(records(16))


def test_a_camera_message_is_header_and_jpeg() -> None:
    picture = jpeg()
    header, body = encode_camera(CameraFrame("OAK", 12.5, picture, 12.6))
    assert json.loads(header) == {
        "camera": "OAK", "timestamp": 12.5, "size": len(picture), "send_time": 12.6,
    }  # fmt: skip
    assert body == picture


@given(st.lists(FINITE, min_size=2, max_size=2), st.lists(FINITE32, min_size=13, max_size=13))
def test_states_survive_the_wire(times: list[float], numbers: list[float]) -> None:
    state = RobotState(*times, numbers[0], tuple(numbers[1:7]), tuple(numbers[7:]))
    assert decode_state(encode_state(state)) == state


@given(st.integers(1, 15))
def test_sensor_records_survive_the_wire(count: int) -> None:
    sent = records(count)
    got = decode_sensor(encode_sensor(sent))
    np.testing.assert_array_equal(got.values, sent.values)
    np.testing.assert_array_equal(got.origin_time, sent.origin_time)
    np.testing.assert_array_equal(got.send_time, sent.send_time)


@given(st.text(min_size=1, max_size=40), FINITE, st.none() | FINITE)
def test_camera_frames_survive_the_wire(camera: str, timestamp: float, send_time: float | None) -> None:
    frame = CameraFrame(camera, timestamp, jpeg(), send_time)
    assert decode_camera(encode_camera(frame)) == frame


@given(
    st.sampled_from(["dpose", "apose"]).flatmap(
        lambda name: st.builds(Command, st.just(name), st.tuples(*[WITHIN_REACH] * 6))
    )
    | st.builds(Command, st.just("start"), seed=st.none() | st.integers(0, 2**63 - 1))
    | st.just(Command("stop"))
)
def test_commands_survive_the_wire(command: Command) -> None:
    assert decode_command(encode_command(command)) == command


def test_keys_a_rig_adds_to_its_commands_do_no_harm() -> None:
    message = b'{"cmd": "dpose", "dp": [0, 0, 0, 0, 0, 1], "speed": "slow"}'
    assert decode_command(message) == Command("dpose", (0, 0, 0, 0, 0, 1))


@given(st.binary(max_size=200))
@example(b"[" * MAX_JSON_BYTES)
@example(b'{"cmd": "start", "seed": ' + b"9" * 4000 + b"}")
@example(b'{"cmd": "dpose", "dp": [1e999, 0, 0, 0, 0, 0]}')
@example(b'{"cmd": ["dpose"]}')
def test_no_bytes_do_more_than_raise_bad_message(noise: bytes) -> None:
    for decode in (decode_command, decode_sensor, decode_jpeg):
        with contextlib.suppress(BadMessage):
            decode(noise)
    for decode_parts in (decode_camera, decode_state):
        for parts in ([], [noise], [noise, jpeg()], [STATE_TOPIC, noise], [noise] * 3):
            with contextlib.suppress(BadMessage):
                decode_parts(parts)


@given(st.integers(0, 3 * 4120 + 4 - 1))
def test_a_datagram_cut_anywhere_is_truncated(length: int) -> None:
    assert kind_of(decode_sensor, encode_sensor(records(3))[:length]) == "truncated"


@given(st.binary(min_size=1, max_size=300))
def test_a_datagram_with_a_tail_is_oversized(tail: bytes) -> None:
    assert kind_of(decode_sensor, encode_sensor(records(1)) + tail) == "oversized"


@pytest.mark.parametrize("count", [0, 16, 2**32 - 1])
def test_a_count_beyond_the_format_is_told_before_anything_is_allocated(count: int) -> None:
    assert kind_of(decode_sensor, struct.pack("<I", count) + bytes(4120)) == "count"


@pytest.mark.parametrize("count", [1, 3])
def test_a_count_that_differs_from_the_records_is_noticed(count: int) -> None:
    datagram = struct.pack("<I", count) + encode_sensor(records(2))[4:]
    assert kind_of(decode_sensor, datagram) == ("oversized" if count == 1 else "truncated")


def test_numbers_that_are_none_are_told() -> None:
    sent = records(2)
    sent.values[1, 500] = math.nan
    assert kind_of(decode_sensor, encode_sensor(sent)) == "non_finite"
    assert kind_of(decode_sensor, encode_sensor(records(2, start=math.inf))) == "non_finite"
    payload = struct.pack("<ddf12f", 1.0, math.nan, *[0.0] * 13)
    assert kind_of(decode_state, [STATE_TOPIC, payload]) == "non_finite"


def test_a_foreign_topic_is_told() -> None:
    _, payload = encode_state(RobotState(0, 0, 0, (0,) * 6, (0,) * 6))
    assert kind_of(decode_state, [b"robot_state2", payload]) == "topic"
    assert kind_of(decode_state, [payload]) == "parts"
    assert kind_of(decode_state, [STATE_TOPIC, payload[:-1]]) == "truncated"
    assert kind_of(decode_state, [STATE_TOPIC, payload + b"\0"]) == "oversized"


@pytest.mark.parametrize(
    ("header", "kind"),
    [
        (b"not json", "header"),
        (b"[1]", "header"),
        (b'{"camera": 5, "timestamp": 1, "size": 4}', "header"),
        (b'{"camera": "", "timestamp": 1, "size": 4}', "header"),
        (b'{"camera": "OAK", "timestamp": 1, "size": 5}', "size"),
        (b'{"camera": "OAK", "timestamp": 1, "size": true}', "size"),
        (b'{"camera": "OAK", "timestamp": "1", "size": 4}', "header"),
        (b'{"camera": "OAK", "timestamp": NaN, "size": 4}', "non_finite"),
        (b'{"camera": "OAK", "timestamp": 1, "size": 4, "send_time": []}', "header"),
        (b'{"camera": "OAK"}' + b" " * MAX_JSON_BYTES, "oversized"),
    ],
)
def test_a_camera_header_at_fault_is_told(header: bytes, kind: str) -> None:
    assert kind_of(decode_camera, [header, b"\xff\xd8\xff\xe0"]) == kind


def test_a_picture_that_is_no_jpeg_is_told() -> None:
    assert kind_of(decode_camera, [b'{"camera": "OAK", "timestamp": 1, "size": 4}', b"\x89PNG"]) == "not_jpeg"
    whole = jpeg((64, 64))
    assert decode_jpeg(whole).shape == (64, 64, 3)
    assert kind_of(decode_jpeg, whole[: len(whole) // 2]) == "not_jpeg"
    png = io.BytesIO()
    Image.new("RGB", (4, 4)).save(png, "PNG")
    assert kind_of(decode_jpeg, png.getvalue()) == "not_jpeg"


@pytest.mark.parametrize(
    "message",
    [
        b'{"cmd": "fly"}',
        b'{"cmd": null}',
        b'{"dp": [0, 0, 0, 0, 0, 0]}',
        b'{"cmd": "dpose"}',
        b'{"cmd": "dpose", "dp": [0, 0, 0, 0, 0]}',
        b'{"cmd": "dpose", "dp": {"x": 1}}',
        b'{"cmd": "apose", "ap": [0, 0, 0, 0, 0, "1"]}',
        b'{"cmd": "apose", "ap": [1e200, 0, 0, 0, 0, 0]}',
        b'{"cmd": "dpose", "dp": [0, 0, 0, 0, 0, -10001]}',
        b'{"cmd": "start", "seed": -1}',
        b'{"cmd": "start", "seed": 1.5}',
    ],
)
def test_a_command_that_is_none_is_told(message: bytes) -> None:
    assert kind_of(decode_command, message) == "command"


def test_a_command_of_infinite_reach_is_told() -> None:
    assert kind_of(decode_command, b'{"cmd": "dpose", "dp": [0, 0, 0, 0, 0, Infinity]}') == "non_finite"


@pytest.mark.parametrize(("size", "picture"), [(9, b"\xff\xd8\xff"), (3, b"GIF"), (MAX_JPEG_BYTES + 1, None)])
@pytest.mark.parametrize("camera", ["\ud800", "\x1b[2J", "a\nb"])
def test_what_is_told_of_a_bad_picture_can_be_printed_whatever_its_camera_is_called(camera, size, picture):
    """Half a character would end whoever prints the line, and an escape sequence would command the terminal."""
    header = json.dumps({"camera": camera, "timestamp": 1.0, "size": size}).encode()
    with pytest.raises(BadMessage) as caught:
        decode_camera([header, b"\xff" * size if picture is None else picture])
    assert str(caught.value).isprintable()
