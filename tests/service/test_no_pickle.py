"""Nothing that any door takes is ever unpickled: every place where bytes fit gets a pickle that would leave a trace."""

from __future__ import annotations

import base64
import io
import json
import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgpack
import numpy as np
import pytest
import zmq
from websockets.sync.client import connect as connect_websocket

from policy.null import NullPolicy, null_spec
from service.running import RunningServer

PATIENCE_S = 20.0
JSON, MSGPACK = "application/json", "application/msgpack"


class Trap:
    """Makes a directory when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.makedirs, (str(self._trace), 0o777, True)


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    return tmp_path / "unpickled"


@pytest.fixture
def trap(trace: Path) -> bytes:
    """The pickle; that it works is shown first."""
    pickled = pickle.dumps(Trap(trace))
    pickle.loads(pickled)
    trace.rmdir()
    return pickled


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with RunningServer(lambda: NullPolicy(null_spec(size=16)), groot_port=0) as running:
        yield running


def npy(trap: bytes) -> bytes:
    """An array of one object, as np.save writes it: a header and a pickle."""
    out = io.BytesIO()
    header = {"descr": "|O", "fortran_order": False, "shape": (1,)}
    np.lib.format.write_array_header_1_0(out, header)
    return out.getvalue() + trap


def array_forms(trap: bytes) -> list[Any]:
    """Everything that some codec of the field reads as an array of objects."""
    forms: list[Any] = [trap, npy(trap)]
    dtype, shape = "|O", [1]
    forms += [
        {"nd": True, "dtype": dtype, "shape": shape, "data": trap},
        {b"nd": True, b"type": dtype, b"kind": b"O", b"shape": shape, b"data": trap},
        {"nd": True, "type": dtype, "kind": "O", "shape": shape, "data": trap},
        {b"__ndarray__": True, b"data": trap, b"dtype": dtype, b"shape": shape},
        {"__numpy__": base64.b64encode(trap).decode(), "dtype": dtype, "shape": shape},
        {"data": base64.b64encode(trap).decode(), "dtype": dtype, "shape": shape},
        {"__ndarray_class__": True, "as_npy": npy(trap)},
        {"__ndarray_class__": True, "as_npy": trap},
        {"__pickle__": trap},
        {"jpeg": trap},
        {"png": base64.b64encode(trap).decode()},
        msgpack.ExtType(42, trap),
    ]
    return forms


def as_json(value: Any) -> Any:
    """The same for JSON, which has neither bytes nor extension types."""
    if isinstance(value, dict):
        return {as_json(key): as_json(item) for key, item in value.items()}
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return base64.b64encode(value.data).decode() if isinstance(value, msgpack.ExtType) else value


def bodies(form: Any) -> list[dict[Any, Any]]:
    """Requests of every dialect with the form wherever an array or image goes."""
    return [
        {"images": {"corner4": form}, "state": form, "sensors": {"force": form}, "prefix": form},
        {"image": form, "state": form, "instruction": form},
        {"full_image": form, "wrist_image": form, "state": form},
        {"observation/image": form, "observation/state": form, "prompt": form},
        {"video.cam": form, "state.all": form, "annotation.human.task_description": form},
        {"observation": {"video": {"cam": form}, "state": {"all": form}}, "options": form},
    ]


def test_no_http_body_is_unpickled(server: RunningServer, trap: bytes, trace: Path) -> None:
    sent: list[tuple[bytes, str]] = [
        (trap, media) for media in (JSON, MSGPACK, "multipart/form-data; boundary=b")
    ]
    for form in array_forms(trap):
        for body in bodies(form):
            sent.append((msgpack.packb(body), MSGPACK))
            sent.append((json.dumps(as_json(body)).encode(), JSON))
            sent.append((json.dumps({"encoded": json.dumps(as_json(body))}).encode(), JSON))
    for name in (b"payload", b"corner4"):
        part = b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n--b--\r\n' % (name, trap)
        sent.append((part, "multipart/form-data; boundary=b"))
    with httpx.Client(base_url=server.http_url, timeout=PATIENCE_S) as client:
        for body, media in sent:
            response = client.post("/act", content=body, headers={"content-type": media})
            assert 400 <= response.status_code < 500, (media, response.text)
        for media in ("application/octet-stream", "application/x-pickle", "application/python-pickle"):
            response = client.post("/act", content=trap, headers={"content-type": media})
            assert response.status_code == 415
    assert not trace.exists()


def test_no_websocket_message_is_unpickled(server: RunningServer, trap: bytes, trace: Path) -> None:
    messages = [trap] + [msgpack.packb(body) for form in array_forms(trap) for body in bodies(form)]
    for message in messages:
        with connect_websocket(server.http_url.replace("http", "ws"), compression=None) as socket:
            socket.recv(PATIENCE_S)
            socket.send(message)
            assert isinstance(socket.recv(PATIENCE_S), str)
    assert not trace.exists()


@pytest.mark.parametrize("door", ["zmq", "groot"])
def test_no_zeromq_message_is_unpickled(server: RunningServer, trap: bytes, trace: Path, door: str) -> None:
    messages: list[list[bytes]] = [[trap], [trap, trap], [pickle.dumps({"endpoint": "get_action"}), trap]]
    for form in array_forms(trap):
        for body in bodies(form):
            messages.append([msgpack.packb({"v": 1, "op": "act", "id": 1, **body}), trap])
            messages.append([msgpack.packb({"endpoint": "get_action", "data": body})])
    for dtype in ("|O", "object"):
        state = {"f": 0, "dtype": dtype, "shape": [1]}
        messages.append([msgpack.packb({"v": 1, "op": "act", "id": 1, "images": {}, "state": state}), trap])
    context = zmq.Context()
    socket: zmq.Socket = context.socket(zmq.REQ)
    socket.setsockopt(zmq.RCVTIMEO, int(PATIENCE_S * 1e3))
    url = server.zmq_url if door == "zmq" else server.groot_url
    assert url is not None
    socket.connect(url)
    try:
        for message in messages:
            socket.send_multipart(message)
            answer = msgpack.unpackb(socket.recv_multipart()[0])
            assert "error" in answer
    finally:
        context.destroy(linger=0)
    assert not trace.exists()
