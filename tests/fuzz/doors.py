"""How fuzzed messages are brought to each door, and what may not come back."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import msgpack
import zmq
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.fuzz.corpus import BOUNDARY, split_frames

PATIENCE_S = 30.0
_SILENCE_S = 0.02  # after which a raw connection is taken to have said everything
_MARKS = (b"Traceback (most recent call last)", b'.py", line ', b".py:")


@dataclass(frozen=True)
class Address:
    """Where the doors of the server under test are."""

    http: str
    zmq: str
    groot: str


@dataclass(frozen=True)
class Answer:
    """What came back for one message."""

    code: str  # "ok", an error's code, an HTTP status that has none, or "silence"
    body: bytes

    @property
    def trouble(self) -> str | None:
        """Why this answer is a finding, if it is."""
        for mark in _MARKS:
            if mark in self.body:
                return f"the answer shows a traceback: {self.body[:300]!r}"
        return f"an unforeseen error: {self.body[:300]!r}" if self.code in ("internal", "500") else None


class Unanswered(Exception):
    """A door that must answer did not."""


class HttpSender:
    """`POST /act` over one kept-alive connection."""

    def __init__(self, address: Address, media: str) -> None:
        self._place, self._headers = urlsplit(address.http), {"Content-Type": media}
        self._connection: http.client.HTTPConnection | None = None

    def exchange(self, messages: list[bytes]) -> list[Answer]:
        return [self._post(message) for message in messages]

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _post(self, message: bytes) -> Answer:
        for attempt in range(2):  # a kept-alive connection may have been closed in between
            if self._connection is None:
                assert self._place.hostname is not None
                self._connection = http.client.HTTPConnection(
                    self._place.hostname, self._place.port, timeout=PATIENCE_S
                )
            try:
                self._connection.request("POST", "/act", message, self._headers)
                response = self._connection.getresponse()
                return Answer(_http_code(response.status, body := response.read()), body)
            except (OSError, http.client.HTTPException) as error:
                self.close()
                self._connection = None
                if attempt:
                    raise Unanswered(repr(error)) from None
        raise AssertionError("unreachable")


class ZmqSender:
    """Many messages on their way at once through a DEALER; each gets one answer, in whatever order."""

    def __init__(self, url: str, split: Callable[[bytes], list[bytes]], code: Callable[[bytes], str]) -> None:
        self._split, self._code = split, code
        self._context = zmq.Context()
        self._socket: zmq.Socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.RCVTIMEO, int(PATIENCE_S * 1e3))
        self._socket.connect(url)

    def exchange(self, messages: list[bytes]) -> list[Answer]:
        for message in messages:
            # Behind a delimiter, so that a message which begins with an empty frame is told apart from one.
            self._socket.send_multipart([b"", *self._split(message)])
        return [self._receive() for _ in messages]

    def close(self) -> None:
        self._context.destroy(linger=0)

    def _receive(self) -> Answer:
        try:
            _, first, *rest = self._socket.recv_multipart()
        except zmq.Again:
            raise Unanswered(f"nothing within {PATIENCE_S:g} s") from None
        return Answer(self._code(first), b"".join([first, *rest]))


class OpenpiSender:
    """The WebSocket at `/`; a refusal ends a connection, and the next message opens another."""

    def __init__(self, address: Address) -> None:
        self._url = address.http.replace("http", "ws", 1) + "/"
        self._socket: ClientConnection | None = None

    def exchange(self, messages: list[bytes]) -> list[Answer]:
        return [self._ask(message) for message in messages]

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()

    def _ask(self, message: bytes) -> Answer:
        try:
            if self._socket is None:
                self._socket = connect(self._url, compression=None, max_size=None, ping_interval=None)
                self._socket.recv(PATIENCE_S)
            self._socket.send(message)
            answer = self._socket.recv(PATIENCE_S)
        except (ConnectionClosed, TimeoutError, OSError) as error:
            self._socket = None
            raise Unanswered(repr(error)) from None
        if isinstance(answer, bytes):
            return Answer("ok", answer)
        self._socket.close()
        self._socket = None
        return Answer(answer.partition(":")[0], answer.encode("utf-8", "surrogatepass"))


class RawSender:
    """Bytes on a bare TCP connection: no answer is owed, only that the server lives on."""

    def __init__(self, url: str) -> None:
        place = urlsplit(url)
        assert place.hostname is not None
        assert place.port is not None
        self._place = (place.hostname, place.port)

    def exchange(self, messages: list[bytes]) -> list[Answer]:
        return [self._send(message) for message in messages]

    def close(self) -> None:
        """Nothing is kept open."""

    def _send(self, message: bytes) -> Answer:
        said = b""
        try:
            with socket.create_connection(self._place, timeout=PATIENCE_S) as connection:
                connection.sendall(message)
                connection.settimeout(_SILENCE_S)
                while len(said) < 2**16 and (data := connection.recv(2**16)):
                    said += data
        except OSError:  # silence, or the server hung up, as it may
            pass
        first = said.split(b"\r\n", 1)[0].split(b" ")
        status = first[1].decode("latin-1") if said.startswith(b"HTTP/1.") and len(first) > 1 else "silence"
        return Answer(status, said)


Sender = HttpSender | ZmqSender | OpenpiSender | RawSender


def open_door(door: str, address: Address) -> Sender:
    """What brings messages to a door of `corpus.DOORS`."""
    match door:
        case "http-json" | "openvla":
            return HttpSender(address, "application/json")
        case "http-msgpack":
            return HttpSender(address, "application/msgpack")
        case "http-multipart":
            return HttpSender(address, f"multipart/form-data; boundary={BOUNDARY}")
        case "zmq":
            return ZmqSender(address.zmq, split_frames, _native_code)
        case "groot":
            return ZmqSender(address.groot, lambda message: [message], _groot_code)
        case "openpi":
            return OpenpiSender(address)
        case "raw-http":
            return RawSender(address.http)
        case "raw-zmtp":
            return RawSender(address.zmq)
    raise ValueError(f"no door {door!r}")


def _http_code(status: int, body: bytes) -> str:
    if status == 200:
        return "ok"
    try:
        problem = json.loads(body)
    except ValueError:
        try:
            problem = msgpack.unpackb(body)
        except (ValueError, msgpack.UnpackException):
            return str(status)
    return str(problem.get("code", status)) if isinstance(problem, dict) else str(status)


def _native_code(header: bytes) -> str:
    answer = msgpack.unpackb(header)
    return "ok" if answer["ok"] else str(answer["error"]["code"])


def _groot_code(message: bytes) -> str:
    answer = msgpack.unpackb(message)
    refused = isinstance(answer, dict) and "error" in answer
    return str(answer["error"]).partition(":")[0] if refused else "ok"
