"""A client in plain Python for the server in the built image: is it ready, does it want its token, does it act."""

from __future__ import annotations

import json
import struct
import time
import urllib.error
import urllib.request
import uuid
import zlib
from collections.abc import Callable
from typing import Any

_NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def wait_until_ready(url: str, within_s: float, alive: Callable[[], bool]) -> float:
    """Seconds until /readyz answered.

    Raises:
        RuntimeError: the server ended, or was not ready in time.
    """
    began = time.monotonic()
    while (spent := time.monotonic() - began) < within_s:
        if not alive():
            raise RuntimeError(f"the server ended after {spent:.1f} s, before it was ready")
        if status(f"{url}/readyz") == 200:
            return spent
        time.sleep(0.2)
    raise RuntimeError(f"the server was not ready within {within_s:g} s")


def status(url: str, data: bytes | None = None, headers: dict[str, str] | None = None) -> int:
    """HTTP status of a request; 0 where nobody answers."""
    try:
        return int(_NO_PROXY.open(urllib.request.Request(url, data, headers or {}), timeout=30).status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def act(url: str, token: str, spec: dict[str, Any]) -> dict[str, Any]:
    """Post one PNG for each camera of the contract with state and instruction, as a form; the reply.

    Raises:
        RuntimeError: anything but a chunk of the contract's shape.
    """
    body, content_type = observation_form(spec)
    headers = {"Content-Type": content_type, "Authorization": f"Bearer {token}", "Accept": "application/json"}
    try:
        with _NO_PROXY.open(urllib.request.Request(f"{url}/act", body, headers), timeout=60) as answer:
            reply: dict[str, Any] = json.load(answer)
    except urllib.error.HTTPError as error:
        raise RuntimeError(
            f"/act answered {error.code}: {error.read(500).decode(errors='replace')}"
        ) from error
    check_chunk(reply, spec)
    return reply


def check_chunk(reply: dict[str, Any], spec: dict[str, Any]) -> None:
    """Refuse a reply that is no chunk of finite actions within the contract's horizon and dimensions."""
    chunk, action = reply.get("actions"), spec["action"]
    shape = [spec["horizon"], len(action["names"])]
    if not isinstance(chunk, list) or [len(chunk), *{len(step) for step in chunk}] != shape:
        raise RuntimeError(f"expected actions {shape}, got {str(chunk)[:200]}")
    # NaN and infinities differ from themselves after a subtraction.
    if any(value - value != 0 for step in chunk for value in step):
        raise RuntimeError(f"actions are not finite: {str(chunk)[:200]}")


def observation_form(spec: dict[str, Any]) -> tuple[bytes, str]:
    """(multipart body, its content type): a gradient from every camera, a state amid its range, a known text."""
    limits = spec["normalization"]["state"]
    state = [(low + high) / 2 for low, high in zip(limits["minimum"], limits["maximum"], strict=True)]
    texts = [text for texts in spec["instruction"]["by_task"].values() for text in texts]
    payload = json.dumps({"state": state, "instruction": (texts or ["move"])[0], "seed": 0})
    boundary = uuid.uuid4().hex
    parts = [("payload", "", "application/json", payload.encode())]
    for camera in spec["cameras"]:
        parts.append((camera["name"], '; filename="view.png"', "image/png", gradient_png(160, 120)))
    body = b"".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{filename}\r\n'
        f"Content-Type: {kind}\r\n\r\n".encode()
        + content
        + b"\r\n"
        for name, filename, kind, content in parts
    )
    return body + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def gradient_png(width: int, height: int) -> bytes:
    """A PNG of a colour gradient."""
    rows = b"".join(
        b"\0" + bytes(value for x in range(width) for value in (x * 255 // width, y * 255 // height, 128))
        for y in range(height)
    )
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
