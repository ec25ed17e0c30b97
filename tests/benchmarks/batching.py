"""Four robots at a policy that takes 150 ms a call, against one; and how fast /healthz is meanwhile.

.venv/bin/python tests/benchmarks/batching.py [--seconds 20] [--run-ms 150] [--clients 4]
"""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import tyro

sys.path[:0] = [str(Path(__file__).resolve().parents[2])]

from clients.bench.observation import bench_observation  # noqa: E402
from clients.connect import connect  # noqa: E402
from service.wire.messages import ActRequest  # noqa: E402
from tests.benchmarks.served import Served  # noqa: E402

HEALTH_EVERY_S = 0.02


@dataclass(frozen=True)
class Settings:
    """What is measured."""

    seconds: float = 20.0
    """Of each measurement."""
    run_ms: float = 150.0
    """How long the policy takes, for one request or several."""
    clients: int = 4
    """Robots that ask again as soon as they are answered."""
    max_wait_ms: tuple[float, ...] = (0.0, 10.0)
    """Settings of the server to measure under."""


def throughput(url: str, clients: int, seconds: float) -> float:
    """Chunks a second that `clients` get together."""
    counts, stop = [0] * clients, threading.Event()

    def robot(number: int) -> None:
        client = connect(url)
        request = ActRequest(bench_observation(client.spec(), 128, 128), session=f"robot-{number}")
        while not stop.is_set():
            client.act(request)
            counts[number] += 1
        client.close()

    threads = [threading.Thread(target=robot, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    time.sleep(1.0)  # connections are made and the first runs over
    before, began = sum(counts), time.monotonic()
    time.sleep(seconds)
    drawn, took = sum(counts) - before, time.monotonic() - began
    stop.set()
    for thread in threads:
        thread.join()
    return drawn / took


def health(url: str, stop: threading.Event, times_ms: list[float]) -> None:
    """Ask how the server is, over one connection."""
    with httpx.Client(base_url=url, trust_env=False) as client:
        client.get("/healthz")
        while not stop.wait(HEALTH_EVERY_S):
            began = time.perf_counter()
            client.get("/healthz").raise_for_status()
            times_ms.append((time.perf_counter() - began) * 1e3)


def main(settings: Settings) -> None:
    for max_wait_ms in settings.max_wait_ms:
        flags = ["--null", "--null-run-ms", str(settings.run_ms), "--max-wait-ms", str(max_wait_ms)]
        with Served(flags) as server:
            stop, times_ms = threading.Event(), list[float]()
            probe = threading.Thread(target=health, args=(server.http_url, stop, times_ms))
            probe.start()
            one = throughput(server.zmq_url, 1, settings.seconds)
            many = throughput(server.zmq_url, settings.clients, settings.seconds)
            stop.set()
            probe.join()
        p50, p99, top = np.percentile(times_ms, (50, 99, 100))
        print(
            f"--max-wait-ms {max_wait_ms:g}: one client {one:.2f} chunks/s, {settings.clients} clients {many:.2f} "
            f"({many / one:.2f}x); /healthz meanwhile p50 {p50:.2f}, p99 {p99:.2f}, max {top:.2f} ms "
            f"({len(times_ms)} asked)"
        )


if __name__ == "__main__":
    main(tyro.cli(Settings))
