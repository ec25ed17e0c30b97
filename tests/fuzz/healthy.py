"""A robot that behaves, beside the fuzzing: asks at a fixed rate until its input ends, then says how it was served.

It is a process of its own, as the fuzzer's threads would otherwise be what delays it.
"""

from __future__ import annotations

import json
import sys
import threading
import time

import numpy as np

from clients.client import PolicyClient
from clients.client_options import ClientOptions
from clients.connect import connect
from clients.retry import NEVER
from policy.errors import TinyVLAError
from policy.observation import Observation
from service.wire.messages import ActRequest


def ask(urls: list[str], deadline_ms: float, rate_hz: float, stop: threading.Event) -> dict[str, object]:
    """Ask the doors in turn.

    Args:
        urls: of the doors.
        deadline_ms: after which an answer is of no use, in the request as well as on the robot's clock.
        rate_hz: requests a second.
        stop: ends it.

    Returns:
        `asked`, `missed` (late, refused or unanswered), the `misses` in words, and `p50_ms`, `p99_ms`, `max_ms`.
    """
    options = ClientOptions(retry=NEVER, timeout_s=max(30.0, deadline_ms / 1e3))
    clients: list[PolicyClient] = [connect(url, options=options) for url in urls]
    image = np.zeros((224, 224, 3), np.uint8)
    observation = Observation({"corner4": image}, np.zeros(4, np.float32), "open the drawer")
    took_ms: list[float] = []
    misses: list[str] = []
    due = time.monotonic()
    while not (stop.is_set() and took_ms):  # at least one, however short the campaign
        url, client = urls[len(took_ms) % len(urls)], clients[len(took_ms) % len(urls)]
        began = time.monotonic()
        try:
            reply = client.act(ActRequest(observation, session=f"healthy-{url}", deadline_ms=deadline_ms))
            assert reply.actions.shape == (48, 4)
        except (TinyVLAError, ConnectionError) as error:
            misses.append(f"{url}: {error}")
        took_ms.append((time.monotonic() - began) * 1e3)
        if took_ms[-1] > deadline_ms:
            misses.append(f"{url}: an answer after {took_ms[-1]:.0f} ms")
        due = max(due + 1 / rate_hz, time.monotonic())
        stop.wait(due - time.monotonic())
    for client in clients:
        client.close()
    p50, p99, longest = np.percentile(took_ms, [50, 99, 100])
    figures = {"p50_ms": p50, "p99_ms": p99, "max_ms": longest}
    return {"asked": len(took_ms), "missed": len(misses), "misses": misses[:20], **figures}


def main() -> None:
    """`python -m tests.fuzz.healthy DEADLINE_MS RATE_HZ URL...`: one line of JSON once standard input ends."""
    stop = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
    print(json.dumps(ask(sys.argv[3:], float(sys.argv[1]), float(sys.argv[2]), stop)), flush=True)


if __name__ == "__main__":
    main()
