"""What is measured: a case is one door under one load, and its measurement is what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from service.wire.images import ImageFormat

Door = Literal["zmq", "http-msgpack", "http-json", "http-multipart", "openpi", "groot"]
# Not doors of ours: a bare WebSocket server that sends the message back, or a chunk of actions, and does nothing else;
# a bare ROUTER that sends a chunk of actions.
Reference = Literal["echo", "echo-chunk", "zmq-chunk"]
DOORS: tuple[Door, ...] = get_args(Door)
REFERENCES: tuple[Reference, ...] = get_args(Reference)
COMPARED_WITH: dict[Door | Reference, tuple[Reference, ...]] = {
    "zmq": ("zmq-chunk",),
    "openpi": ("echo", "echo-chunk"),
}

_ENCODINGS: dict[str, tuple[ImageFormat, ...]] = {
    "zmq": ("raw", "jpeg", "png"),
    "http-msgpack": ("raw", "jpeg", "png"),
    "http-json": ("raw", "jpeg", "png"),
    "http-multipart": ("jpeg", "png"),  # each image is a file
}


@dataclass(frozen=True)
class Case:
    """One door under one load."""

    door: Door | Reference
    encoding: ImageFormat  # of images on the wire
    width: int  # pixels of every camera's image
    height: int
    clients: int  # each a process of its own
    rate_hz: float  # requests a second of each client; 0: the next one when the last is answered

    def __str__(self) -> str:
        load = f"{self.rate_hz:g} Hz" if self.rate_hz else "closed loop"
        many = "1 client" if self.clients == 1 else f"{self.clients} clients"
        return f"{self.door} {self.encoding} {self.width}x{self.height}, {many}, {load}"


@dataclass(frozen=True)
class Measurement:
    """What a case took. Latency is from an observation in memory to its actions in memory, at the client."""

    case: Case
    seconds: float
    calls: int  # answered with actions
    errors: dict[str, int]  # code -> calls; `not_made`: due, but the server was never free for them
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    per_second: float  # answered before the end, all clients together
    health_p99_ms: float | None  # of GET /healthz meanwhile; None where there is none


def cases_of(
    doors: Sequence[Door],
    encodings: Sequence[ImageFormat],
    sizes: Sequence[tuple[int, int]],
    clients: Sequence[int],
    rates_hz: Sequence[float],
) -> list[Case]:
    """Every combination that the doors can speak; some come with the bare servers they are compared with."""
    wanted: list[Door | Reference] = []
    for door in doors:
        wanted += [*COMPARED_WITH.get(door, ()), door]
    return [
        Case(door, encoding, width, height, count, rate)
        for width, height in sizes
        for count in clients
        for rate in rates_hz
        for door in wanted
        for encoding in encodings
        if encoding in _ENCODINGS.get(door, ("raw",))
    ]
