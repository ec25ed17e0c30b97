"""The flags of `tinyvla bench serve`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clients.bench.cases import DOORS, Case, Door, cases_of
from policy.errors import UsageError
from service.flags import parse_flags
from service.wire.images import ImageFormat


@dataclass(frozen=True)
class BenchSettings:
    """Measure latency and throughput of a policy server's doors.

    Without --server a server of its own is started, with a policy that does nothing (transport only), one that takes
    --null-ms, or the one in --bundle. Every client is a process of its own; latency is what a robot would see, from the
    observation in memory to the actions in memory. The ZeroMQ and openpi doors are measured beside bare servers.
    """

    doors: tuple[Door, ...] = ()
    """Which doors; default all whose client is installed."""
    sizes: tuple[str, ...] = ("224x224",)
    """Widths and heights of the images, such as 224x224 1280x720."""
    encodings: tuple[ImageFormat, ...] = ("raw",)
    """How images travel; what a door cannot carry is left out (multipart needs jpeg or png)."""
    clients: tuple[int, ...] = (1,)
    """How many at a time."""
    rates: tuple[float, ...] = (0.0,)
    """Requests a second of each client, counted from when each was due; 0: the next when the last is answered."""
    seconds: float = 3.0
    """How long each case is measured."""
    warmup: int = 50
    """Calls of each client before that."""
    null_ms: float = 0.0
    """Milliseconds that a run of the policy takes which stands in for a real one."""
    bundle: Path | None = None
    """A policy bundle to serve instead."""
    serve_flags: str = ""
    """More flags for the server that is started, such as --serve-flags="--max-wait-ms 10"."""
    server: str | None = None
    """http://HOST:PORT of a server that runs already."""
    zmq: str | None = None
    """tcp://HOST:PORT of its ZeroMQ door."""
    groot: str | None = None
    """tcp://HOST:PORT of its GR00T door."""
    token: str | None = None
    """Its token."""
    out: Path = Path("runs/bench-serve")
    """Directory for bench.json and bench.png."""

    def cases(self) -> list[Case]:
        """What is measured, in order; raises `UsageError` when nothing is."""
        cases = cases_of(
            self.doors or DOORS, self.encodings, [_size(s) for s in self.sizes], self.clients, self.rates
        )
        if self.server is not None:
            reached = {"zmq": self.zmq, "groot": self.groot}
            cases = [case for case in cases if reached.get(case.door, self.server) is not None]
        if not cases:
            raise UsageError("no door can be measured so: multipart needs jpeg or png, openpi and groot raw")
        return cases


def read_settings(argv: Sequence[str]) -> BenchSettings:
    """Raises `UsageError` for flags that do not read and values that make no sense."""
    settings = parse_flags(BenchSettings, argv, "tinyvla bench serve")
    for flag, good, wanted in (
        ("--clients", all(count >= 1 for count in settings.clients), "1 or more"),
        ("--rates", all(0 <= rate <= 10_000 for rate in settings.rates), "0 ... 10000"),
        ("--seconds", 0.1 <= settings.seconds <= 3600, "0.1 ... 3600"),
        ("--warmup", settings.warmup >= 1, "1 or more"),
        ("--null-ms", 0 <= settings.null_ms <= 60_000, "0 ... 60000"),
    ):
        if not good:
            raise UsageError(f"{flag}: expected {wanted}")
    if settings.server is None and (settings.zmq or settings.groot or settings.token):
        raise UsageError(
            "--zmq, --groot and --token belong to a server that runs already: give --server as well"
        )
    if settings.server is not None and (settings.bundle or settings.null_ms or settings.serve_flags):
        raise UsageError(
            "--bundle, --null-ms and --serve-flags belong to a server that is started here, not to --server"
        )
    settings.cases()
    return settings


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)x(\d+)", text)
    if found is None or not all(0 < int(side) <= 8192 for side in found.groups()):
        raise UsageError(f"--sizes {text}: expected WIDTHxHEIGHT, such as 224x224")
    return int(found[1]), int(found[2])
