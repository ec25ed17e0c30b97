"""The kept messages that mutation starts from, one folder a door, one message a file; `python -m tests.fuzz.corpus`
writes the good ones anew. What a fuzz run finds is added beside them as `found-*`, and stays.
"""

from __future__ import annotations

import base64
import io
import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from policy.observation import Observation, SampleOptions
from service.wire import json_codec, msgpack_codec, multipart_codec, zmq_frames
from service.wire.messages import ActRequest

FOLDER = Path(__file__).with_name("corpus")
DOORS = (
    "http-json",
    "http-msgpack",
    "http-multipart",
    "openvla",
    "zmq",
    "openpi",
    "groot",
    "raw-http",
    "raw-zmtp",
)
BOUNDARY = "b"


def load(door: str) -> list[bytes]:
    """The kept messages of a door, in a fixed order."""
    return [file.read_bytes() for file in sorted((FOLDER / door).iterdir())]


def join_frames(frames: Sequence[bytes]) -> bytes:
    """Frames in one file: each after its length."""
    return b"".join(struct.pack("<I", len(frame)) + frame for frame in frames)


def split_frames(data: bytes) -> list[bytes]:
    """The frames of such a file; of bytes that are none, as many as can be made out."""
    frames, at = [], 0
    while at + 4 <= len(data):
        (length,) = struct.unpack_from("<I", data, at)
        frames.append(data[at + 4 : at + 4 + length])
        at += 4 + length
    return frames or [data]


def good_messages() -> dict[str, dict[str, bytes]]:
    """By door and name: every form that clients send."""
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    state = np.array([0.1, -0.2, 0.3, 0.4], np.float32)
    plain = ActRequest(Observation({"corner4": image}, state, "open the drawer"))
    full = ActRequest(
        Observation({"corner4": image}, state, "öffne die Schublade"),
        SampleOptions(ddim_steps=3, sampler="ddim", seed=7, prefix=np.zeros((2, 4), np.float32), samples=2),
        policy="null",
        session="fuzz",
        seq=1,
        timestamp_ns=1,
        deadline_ms=1e4,
    )
    made: dict[str, dict[str, bytes]] = {door: {} for door in DOORS}
    for name, request in (("plain", plain), ("full", full)):
        for form in ("raw", "jpeg", "png"):
            made["http-json"][f"{name}-{form}"] = json_codec.encode_request(request, image_format=form)  # type: ignore[arg-type]
            made["http-msgpack"][f"{name}-{form}"] = msgpack_codec.encode_request(request, image_format=form)  # type: ignore[arg-type]
            frames = zmq_frames.encode_request(request, 1, image_format=form)  # type: ignore[arg-type]
            made["zmq"][f"{name}-{form}"] = join_frames([bytes(frame) for frame in frames])
        body, content_type = multipart_codec.encode_request(request)
        made["http-multipart"][name] = body.replace(
            content_type.partition("boundary=")[2].encode(), BOUNDARY.encode()
        )
    for op, fields in (("reset", {"session": "fuzz"}), ("spec", {"policy": "null"}), ("ping", {})):
        made["zmq"][op] = join_frames([bytes(f) for f in zmq_frames.encode_call(op, 2, fields=fields)])
    made["openpi"] = _openpi(image, state)
    made["openvla"] = _openvla(image, state)
    made["groot"] = _groot(image, state)
    made["raw-http"] = _raw_http(made["http-json"]["plain-jpeg"], made["http-msgpack"]["plain-raw"])
    made["raw-zmtp"] = {"greeting": _ZMTP_GREETING + _ZMTP_READY + b"\x00\x04ping"}
    return made


def _openpi(image: np.ndarray, state: np.ndarray) -> dict[str, bytes]:
    def nd(array: np.ndarray) -> dict[bytes, Any]:
        return {
            b"__ndarray__": True,
            b"data": array.tobytes(),
            b"dtype": array.dtype.str,
            b"shape": array.shape,
        }

    scalar = {b"__npgeneric__": True, b"data": 3, b"dtype": "<i8"}
    return {
        "droid": msgpack.packb(
            {
                "observation/image": nd(image),
                "observation/state": nd(state),
                "prompt": "go",
                "ddim_steps": scalar,
            }
        ),
        "aloha": msgpack.packb(
            {"images": {"corner4": nd(np.ascontiguousarray(image.transpose(2, 0, 1)))}, "state": nd(state)}
        ),
        "floats": msgpack.packb(
            {"image": nd((image / 255).astype(np.float32)), "state": [0.0] * 4, "prompt": ""}
        ),
    }


def _openvla(image: np.ndarray, state: np.ndarray) -> dict[str, bytes]:
    def nd(array: np.ndarray) -> dict[str, Any]:
        data = base64.b64encode(array.tobytes()).decode()
        return {"__numpy__": data, "dtype": array.dtype.str, "shape": array.shape}

    one = {"image": nd(image), "instruction": "go", "unnorm_key": "bridge", "state": nd(state)}
    chunk = {"full_image": nd(image), "wrist_image": nd(image), "state": nd(state), "instruction": "go"}
    return {
        "openvla": json.dumps(one).encode(),
        "oft": json.dumps(chunk).encode(),
        "encoded": json.dumps({"encoded": json.dumps(one)}).encode(),
    }


def _groot(image: np.ndarray, state: np.ndarray) -> dict[str, bytes]:
    def npy(array: np.ndarray) -> dict[str, Any]:
        out = io.BytesIO()
        np.save(out, array)
        return {"__ndarray_class__": True, "as_npy": out.getvalue()}

    def mnp(array: np.ndarray) -> dict[bytes, Any]:
        kind = {b"nd": True, b"type": array.dtype.str, b"kind": b"", b"shape": array.shape}
        return {**kind, b"data": array.tobytes()}

    made = {}
    for name, nd in (("npy", npy), ("mnp", mnp)):
        nested = {
            "video": {"ego_view": nd(image[None, None])},
            "state": {"all": nd(state[None, None])},
            "language": {"task": [["go"]]},
        }
        flat = {
            "video.ego_view": nd(image[None]),
            "state.all": nd(state[None]),
            "annotation.human.task_description": ["go"],
        }
        asked = {"endpoint": "get_action", "data": {"observation": nested, "options": {"seed": 3}}}
        made[f"n16-{name}"] = msgpack.packb(asked)
        made[f"n15-{name}"] = msgpack.packb({"endpoint": "get_action", "data": flat})
    for endpoint in ("ping", "get_modality_config", "kill"):
        made[endpoint] = msgpack.packb({"endpoint": endpoint})
    made["reset"] = msgpack.packb({"endpoint": "reset", "data": {"options": None}, "api_token": "t"})
    return made


def _raw_http(json_body: bytes, msgpack_body: bytes) -> dict[str, bytes]:
    def post(media: str, body: bytes) -> bytes:
        head = f"POST /act HTTP/1.1\r\nHost: robot\r\nContent-Type: {media}\r\nContent-Length: {len(body)}\r\n\r\n"
        return head.encode() + body

    upgrade = (
        b"GET / HTTP/1.1\r\nHost: robot\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    frame = b"\x82\x85\x00\x00\x00\x00hello"
    chunked = b"POST /act HTTP/1.1\r\nHost: r\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n"
    return {
        "json": post("application/json", json_body),
        "msgpack": post("application/msgpack", msgpack_body),
        "chunked": chunked + b"2\r\n{}\r\n0\r\n\r\n",
        "get": b"GET /policies/null HTTP/1.1\r\nHost: robot\r\nAccept: */*\r\n\r\n",
        "delete": b"DELETE /sessions/fuzz HTTP/1.1\r\nHost: robot\r\n\r\n",
        "websocket": upgrade + frame,
    }


_ZMTP_GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48)
_ZMTP_READY = b"\x04\x19\x05READY\x0bSocket-Type\x00\x00\x00\x03REQ"


def main() -> None:
    """Write the good messages; what runs have found stays."""
    for door, messages in good_messages().items():
        (FOLDER / door).mkdir(parents=True, exist_ok=True)
        for name, message in messages.items():
            (FOLDER / door / name).write_bytes(message)


if __name__ == "__main__":
    main()
