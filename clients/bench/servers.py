"""The servers that are measured: one that runs already, or a `tinyvla serve` of this benchmark's own."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO, cast

from clients.bench.cases import COMPARED_WITH, Door, Reference
from clients.bench.settings import BenchSettings
from policy.errors import UsageError

STOP_WITHIN_S = 10.0
_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Addresses:
    """Where each door is."""

    http: str
    by_door: Mapping[Door | Reference, str]


@contextlib.contextmanager
def servers(settings: BenchSettings) -> Iterator[Addresses]:
    """Every server that the settings need, until the block ends.

    Raises:
        UsageError: a server did not come up; the message ends with what it said.
    """
    with contextlib.ExitStack() as stack:
        if settings.server is not None:
            http, zmq, groot = settings.server.rstrip("/"), settings.zmq, settings.groot
        else:
            http, zmq, groot = stack.enter_context(_own_server(settings))
        by_door: dict[Door | Reference, str] = {}
        for door in settings.doors:
            url = {"zmq": zmq, "groot": groot}.get(door, http)
            if url is not None:
                by_door[door] = url
            for kind in COMPARED_WITH.get(door, ()):
                by_door[kind] = stack.enter_context(_reference(kind))
        yield Addresses(http, by_door)


@contextlib.contextmanager
def _own_server(settings: BenchSettings) -> Iterator[tuple[str, str, str]]:
    """HTTP, ZeroMQ and GR00T addresses of a new process on free loopback ports."""
    flags = ["--port", "0", "--zmq-port", "0", "--groot-port", "0", "--log-format", "json"]
    if settings.bundle is not None:
        flags += ["--bundle", str(settings.bundle)]
    else:
        flags += ["--null", "--null-run-ms", str(settings.null_ms)]
    flags += shlex.split(settings.serve_flags)
    # Settings of a server that the user runs elsewhere must not reach this one.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TINYVLA_")}
    with _process(["tinyvla", "serve", *flags], environment) as process:
        said = ""
        for line in cast(TextIO, process.stderr):
            found = re.search(r"ready: .* at (\S+) and (\S+), GR00T at (tcp://[^\s\"]+)", line)
            if found:
                # Somebody reads on: a server whose pipe is full would stand still where it logs.
                reading = threading.Thread(target=deque, args=(process.stderr, 0), daemon=True)
                reading.start()
                try:
                    yield found[1], found[2], found[3]
                finally:
                    process.terminate()
                    reading.join(STOP_WITHIN_S)
                return
            said = line.strip() or said
        raise UsageError(f"the server did not start: {said[:300]}")


@contextlib.contextmanager
def _reference(kind: Reference) -> Iterator[str]:
    with _process(["clients.bench.echo_server", kind], os.environ) as process:
        port = cast(TextIO, process.stdout).readline().strip()
        if not port:
            raise UsageError(f"the bare server did not start: {cast(TextIO, process.stderr).read()[-300:]}")
        yield f"{'tcp' if kind == 'zmq-chunk' else 'http'}://127.0.0.1:{port}"


@contextlib.contextmanager
def _process(module: list[str], environment: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", *module],
        cwd=_ROOT,
        env=dict(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.communicate(timeout=STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
