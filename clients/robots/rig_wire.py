"""The needle rig's wire to the byte: one codec a message, shared by the driver and the simulated rig.

| stream | transport | message |
|---|---|---|
| cameras | ZeroMQ PUSH, the receiver's PULL is bound | `[JSON {camera, timestamp, size, send_time?}, JPEG]` |
| robot state | ZeroMQ PUB | `[b"robot_state", "<ddf12f"]`: origin and send time, force, 6 joints, pose x y z a b r |
| sensor | UDP | `"<I"` count, then per record `"<ddf"` (origin and send time, force) + 1025 x `"<f4"` |
| commands | ZeroMQ PUSH to the rig | JSON `{"cmd": "start" / "dpose" / "apose" / "stop", ...}` |

Times are seconds on the sender's clock; `size` is the JPEG's length in bytes. Whatever does not decode raises
`BadMessage`, whose `kind` is what receivers count; nothing else ever comes out of a decoder.
"""

from __future__ import annotations

import io
import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from PIL import Image

from clients.robots.needle_rig_contract import ALINE_POINTS, SENSOR_CHANNELS

CAMERA_PORT, STATE_PORT, SENSOR_PORT, COMMAND_PORT = 5555, 5556, 9999, 5000
STATE_TOPIC = b"robot_state"
MAX_RECORDS = 15
MAX_JSON_BYTES = 4096
MAX_JPEG_BYTES = 8 * 2**20
MAX_JPEG_PIXELS = 4096 * 4096
MAX_COMMAND = 1e4  # mm and degrees: beyond any arm

_STATE = struct.Struct("<ddf12f")
_COUNT = struct.Struct("<I")
_RECORD = np.dtype([("origin", "<f8"), ("send", "<f8"), ("force", "<f4"), ("aline", "<f4", (ALINE_POINTS,))])

BadKind = Literal[
    "parts", "topic", "header", "size", "not_jpeg", "truncated", "oversized", "count", "non_finite", "command"
]
CommandName = Literal["start", "dpose", "apose", "stop"]


class BadMessage(ValueError):
    """A message that breaks the wire format; `kind` is what to count it under."""

    def __init__(self, kind: BadKind, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind


@dataclass(frozen=True)
class CameraFrame:
    """One encoded view."""

    camera: str  # as the rig names it, such as ZED_11000001_left
    timestamp: float  # of the capture
    jpeg: bytes
    send_time: float | None = None


@dataclass(frozen=True)
class RobotState:
    """Where the arm is."""

    origin_time: float
    send_time: float
    force: float  # N
    joints: tuple[float, ...]  # 6, degrees
    pose: tuple[float, ...]  # x y z in mm, a b r in degrees


@dataclass(frozen=True)
class SensorRecords:
    """Some consecutive samples of the needle tip's sensor."""

    origin_time: np.ndarray  # float64 [n]
    send_time: np.ndarray  # float64 [n]
    values: np.ndarray  # float32 [n, 1026]: force, A-line


@dataclass(frozen=True)
class Command:
    """What the rig is told. `vector` is [6], mm and degrees: deltas of a dpose, the target of an apose."""

    cmd: CommandName
    vector: tuple[float, ...] | None = None
    seed: int | None = (
        None  # of a start: which scene the simulated rig lays out; a real rig has no use for it
    )


def encode_camera(frame: CameraFrame) -> list[bytes]:
    """The two parts of a camera message."""
    header: dict[str, Any] = {
        "camera": frame.camera, "timestamp": frame.timestamp, "size": len(frame.jpeg),
    }  # fmt: skip
    if frame.send_time is not None:
        header["send_time"] = frame.send_time
    return [json.dumps(header).encode(), frame.jpeg]


def decode_camera(parts: Sequence[bytes]) -> CameraFrame:
    """Check everything but the picture itself, which `decode_jpeg` does off the receive thread."""
    if len(parts) != 2:
        raise BadMessage("parts", f"a camera message has 2 parts, this one {len(parts)}")
    header = _json_map(parts[0], "header")
    camera = header.get("camera")
    if not isinstance(camera, str) or not 0 < len(camera) <= 128:
        raise BadMessage("header", "camera: expected a name")
    size, jpeg = header.get("size"), parts[1]
    if isinstance(size, bool) or not isinstance(size, int) or size != len(jpeg):
        raise BadMessage("size", f"{camera!r}: size says {str(size)[:20]}, the picture has {len(jpeg)} bytes")
    if len(jpeg) > MAX_JPEG_BYTES:
        raise BadMessage("oversized", f"{camera!r}: {len(jpeg)} bytes, at most {MAX_JPEG_BYTES}")
    if not jpeg.startswith(b"\xff\xd8\xff"):
        raise BadMessage("not_jpeg", f"{camera!r}: the picture is no JPEG")
    send_time = header.get("send_time")
    return CameraFrame(
        camera=camera,
        timestamp=_number(header.get("timestamp"), "timestamp"),
        jpeg=jpeg,
        send_time=None if send_time is None else _number(send_time, "send_time"),
    )


def decode_jpeg(jpeg: bytes) -> np.ndarray:
    """uint8 [H, W, 3] RGB."""
    try:
        with Image.open(io.BytesIO(jpeg), formats=("JPEG",)) as image:
            if image.width * image.height > MAX_JPEG_PIXELS:
                raise BadMessage("oversized", f"{image.width} x {image.height} pixels")
            return np.asarray(image.convert("RGB"))
    except BadMessage:
        raise
    except Exception as error:  # Pillow raises whatever its parsers run into
        raise BadMessage("not_jpeg", f"the picture does not decode: {error}") from None


def encode_state(state: RobotState) -> list[bytes]:
    """Topic and payload."""
    payload = _STATE.pack(state.origin_time, state.send_time, state.force, *state.joints, *state.pose)
    return [STATE_TOPIC, payload]


def decode_state(parts: Sequence[bytes]) -> RobotState:
    if len(parts) != 2:
        raise BadMessage("parts", f"a state message has 2 parts, this one {len(parts)}")
    if parts[0] != STATE_TOPIC:
        raise BadMessage("topic", f"topic {bytes(parts[0][:32])!r}, not {STATE_TOPIC!r}")
    _check_length(len(parts[1]), _STATE.size, "a robot state")
    origin, send, force, *rest = _STATE.unpack(parts[1])
    if not all(map(math.isfinite, (origin, send, force, *rest))):
        raise BadMessage("non_finite", "a robot state holds NaN or infinity")
    return RobotState(origin, send, force, tuple(rest[:6]), tuple(rest[6:]))


def encode_sensor(records: SensorRecords) -> bytes:
    """One datagram; at most `MAX_RECORDS` records."""
    count = len(records.values)
    if not 1 <= count <= MAX_RECORDS:
        raise ValueError(f"a datagram carries 1 ... {MAX_RECORDS} records, not {count}")
    body = np.empty(count, _RECORD)
    body["origin"], body["send"] = records.origin_time, records.send_time
    body["force"], body["aline"] = records.values[:, 0], records.values[:, 1:]
    return _COUNT.pack(count) + body.tobytes()


def decode_sensor(datagram: bytes) -> SensorRecords:
    if len(datagram) < _COUNT.size:
        raise BadMessage("truncated", f"a datagram of {len(datagram)} bytes")
    (count,) = _COUNT.unpack_from(datagram)
    if not 1 <= count <= MAX_RECORDS:
        raise BadMessage(
            "count", f"a datagram says it holds {count} records; 1 ... {MAX_RECORDS} are allowed"
        )
    _check_length(len(datagram), _COUNT.size + count * _RECORD.itemsize, f"a datagram of {count} records")
    body = np.frombuffer(datagram, _RECORD, count, _COUNT.size)
    values = np.empty((count, SENSOR_CHANNELS), np.float32)
    values[:, 0], values[:, 1:] = body["force"], body["aline"]
    origin, send = body["origin"].astype(np.float64), body["send"].astype(np.float64)
    if not (np.isfinite(values).all() and np.isfinite(origin).all() and np.isfinite(send).all()):
        raise BadMessage("non_finite", "a sensor record holds NaN or infinity")
    return SensorRecords(origin, send, values)


def encode_command(command: Command) -> bytes:
    body: dict[str, Any] = {"cmd": command.cmd}
    if command.vector is not None:
        body["dp" if command.cmd == "dpose" else "ap"] = list(command.vector)
    if command.seed is not None:
        body["seed"] = command.seed
    return json.dumps(body).encode()


def decode_command(message: bytes) -> Command:
    """Unknown keys are ignored: rigs differ in what they add."""
    body = _json_map(message, "command")
    name: Any = body.get("cmd")
    if name not in get_args(CommandName):
        raise BadMessage("command", f"cmd: expected one of {', '.join(get_args(CommandName))}")
    if name in ("dpose", "apose"):
        key = "dp" if name == "dpose" else "ap"
        vector = body.get(key)
        if not isinstance(vector, list) or len(vector) != 6:
            raise BadMessage("command", f"{key}: expected six numbers")
        numbers = tuple(_number(value, key, kind="command") for value in vector)
        if max(map(abs, numbers)) > MAX_COMMAND:
            raise BadMessage("command", f"{key}: at most {MAX_COMMAND:g} mm and degrees")
        return Command(name, numbers)
    seed = body.get("seed")
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63):
        raise BadMessage("command", "seed: expected a whole number, 0 ... 2^63 - 1")
    return Command(name, seed=seed)


def _json_map(text: bytes, kind: BadKind) -> Mapping[str, Any]:
    if len(text) > MAX_JSON_BYTES:
        raise BadMessage("oversized", f"{len(text)} bytes of JSON, at most {MAX_JSON_BYTES}")
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadMessage(kind, f"no JSON: {error}") from None
    if not isinstance(body, dict):
        raise BadMessage(kind, f"expected a JSON map, got {type(body).__name__}")
    return body


def _number(value: object, name: str, kind: BadKind = "header") -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadMessage(kind, f"{name}: expected a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise BadMessage("non_finite", f"{name}: not finite")
    return number


def _check_length(length: int, wanted: int, what: str) -> None:
    if length != wanted:
        kind: BadKind = "truncated" if length < wanted else "oversized"
        raise BadMessage(kind, f"{what} has {wanted} bytes, this one {length}")
