"""Runs one case: its clients, all at once, and somebody who asks for the server's health meanwhile."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence

import httpx
import numpy as np

from clients.bench.cases import REFERENCES, Case, Measurement
from clients.bench.client_process import ClientProcess
from clients.bench.load import Samples
from clients.bench.servers import Addresses
from policy.spec import PolicySpec

_LEAD_S = 0.05  # from the word to the start, so that all clients start together
_HEALTH_EVERY_S = 0.05


def measure(
    case: Case, addresses: Addresses, token: str | None, spec: PolicySpec, seconds: float, warmup: int
) -> Measurement:
    """Raises `UsageError` when a client cannot be used at all; refusals of single calls are counted."""
    url = addresses.by_door[case.door]
    with contextlib.ExitStack() as stack:
        clients = []
        for _ in range(case.clients):
            clients.append(ClientProcess(case, url, token, spec, warmup))
            stack.callback(clients[-1].close)
        for client in clients:
            client.await_ready()
        health: list[float] = []
        if case.door not in REFERENCES:
            stack.enter_context(_health_asked(addresses.http, health))
        starts = time.monotonic() + _LEAD_S
        for client in clients:
            client.start(starts, starts + seconds)
        return summarise(case, seconds, [client.samples() for client in clients], health)


def summarise(
    case: Case, seconds: float, samples: Sequence[Samples], health_ms: Sequence[float]
) -> Measurement:
    """All clients' calls together."""
    latencies = np.concatenate([np.asarray(one.latencies_ms, float) for one in samples])
    p50, p95, p99, top = np.percentile(latencies, (50, 95, 99, 100)) if len(latencies) else [np.nan] * 4
    return Measurement(
        case=case,
        seconds=seconds,
        calls=len(latencies),
        errors=dict(sum((one.errors for one in samples), Counter())),
        p50_ms=float(p50),
        p95_ms=float(p95),
        p99_ms=float(p99),
        max_ms=float(top),
        per_second=sum(one.in_time for one in samples) / seconds,
        health_p99_ms=float(np.percentile(health_ms, 99)) if health_ms else None,
    )


@contextlib.contextmanager
def _health_asked(http: str, into: list[float]) -> Iterator[None]:
    """`GET /healthz` now and then while the block runs; milliseconds go into the list."""
    done = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=http, timeout=30.0, trust_env=False) as client:
            connected = False
            while not done.is_set():
                began = time.monotonic()
                try:
                    client.get("/healthz")
                except httpx.TransportError:  # the clients tell of a server that is gone
                    connected = False
                else:
                    if connected:  # else it took a connection too
                        into.append((time.monotonic() - began) * 1e3)
                    connected = True
                done.wait(_HEALTH_EVERY_S)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    try:
        yield
    finally:
        done.set()
        asking.join()
