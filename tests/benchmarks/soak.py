"""Hours of a lab in minutes: steady load, policies swapped beneath it, clients that die at any moment.

.venv/bin/python tests/benchmarks/soak.py [--minutes 10] [--bundle bundles/metaworld8]

Live robots ask at 80 % of what the server can do, half of them over HTTP, half over ZeroMQ. Others are processes that
are killed in the middle of whatever they do. Every 20 s a policy is loaded, activated, and the one before it unloaded.
What is printed at the end: requests of live robots that failed, the load that there really was, and the server's memory
in its last minute against its second. What the server can do is measured before and after: where the two differ, the
machine was not this benchmark's alone.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import random
import re
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import tyro

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from clients.bench.observation import bench_observation  # noqa: E402
from clients.client_options import ClientOptions  # noqa: E402
from clients.connect import connect  # noqa: E402
from clients.retry import NEVER  # noqa: E402
from policy.checksums import CHECKSUMS  # noqa: E402
from policy.errors import TinyVLAError  # noqa: E402
from service.wire.messages import ActRequest  # noqa: E402
from tests.benchmarks.served import Served  # noqa: E402

OPTIONS = ClientOptions(timeout_s=30.0, retry=NEVER)  # a request that has to be made twice has failed
ADMIN = {"Authorization": "Bearer admin"}
CALIBRATE_S = 8.0
MADE_UP_FOR_S = 2.0  # of a robot's schedule; a longer stall would be followed by minutes at full load


@dataclass(frozen=True)
class Settings:
    """How long, how hard."""

    minutes: float = 10.0
    bundle: Path = ROOT / "bundles" / "metaworld8"
    load: float = 0.8
    """Share of what the server can do."""
    robots: int = 6
    """Live clients."""
    swap_every_s: float = 20.0
    kill_every_s: float = 3.0
    """On average."""
    out: Path | None = None
    """JSON with every minute's figures."""


@dataclass
class Tally:
    """What live robots were answered."""

    answered: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    calls: list[tuple[float, float]] = field(
        default_factory=list
    )  # when it began and when it was answered, in s
    policies: set[str] = field(default_factory=set)


def robot(url: str, session: str, period_s: float, stop: threading.Event, tally: Tally) -> None:
    """Ask every `period_s` (0: again as soon as answered) until told to stop.

    A call that took longer than the period delays those after it, which then follow one another until the schedule is
    met again: the load would otherwise be least when the server is slowest.
    """
    client = connect(url, options=OPTIONS)
    spec = client.spec()
    request = ActRequest(
        bench_observation(spec, spec.cameras[0].width, spec.cameras[0].height), session=session
    )
    due = time.monotonic() + random.uniform(0, period_s)
    while not stop.wait(max(0.0, due - time.monotonic())):
        began = time.monotonic()
        try:
            tally.policies.add(client.act(request).policy)
            tally.answered += 1
            tally.calls.append((began, time.monotonic()))
        except (TinyVLAError, ConnectionError) as error:
            tally.failed[getattr(error, "code", type(error).__name__)] += 1
            print(f"FAILED {session}: {error}", flush=True)
        due = max(due + period_s, time.monotonic() - MADE_UP_FOR_S)
    client.close()


def victim(url: str, period_s: float) -> None:
    """A robot in a process of its own, until it is killed."""
    robot(url, f"victim-{random.random()}", period_s, threading.Event(), Tally())


def kill_some(urls: list[str], period_s: float, every_s: float, stop: threading.Event) -> int:
    """Start victims and kill them at random moments; returns how many."""
    fork = multiprocessing.get_context("forkserver")
    fork.set_forkserver_preload([__name__, "clients.http", "clients.zmq"])
    for count, url in enumerate(itertools.cycle(urls)):
        one = fork.Process(target=victim, args=(url, period_s), daemon=True)
        one.start()
        stop.wait(random.uniform(0.2, 1.8) * every_s)
        one.kill()
        one.join()
        if stop.is_set():
            return count + 1
    raise AssertionError


def swap(
    url: str, bundles: list[str], every_s: float, stop: threading.Event, swaps: list[tuple[float, float]]
) -> None:
    """Load and activate one bundle after the other, and unload the one before."""
    with httpx.Client(base_url=url, headers=ADMIN, timeout=60.0, trust_env=False) as admin:
        for bundle in itertools.cycle(bundles):
            if stop.wait(every_s):
                return
            before = admin.get("/status").json()["active"]
            began = time.monotonic()
            admin.post("/policies", json={"bundle": bundle, "activate": True}).raise_for_status()
            swaps.append((began, time.monotonic()))
            admin.delete(f"/policies/{before}").raise_for_status()


def copies(bundle: Path, root: Path) -> list[str]:
    """Two policies that differ by name alone."""
    names = ["first", "second"]
    for name in names:
        shutil.copytree(bundle, root / name)
        contract = root / name / "policy.json"
        contract.write_text(json.dumps({**json.loads(contract.read_text()), "name": name}))
        (root / name / CHECKSUMS).unlink(missing_ok=True)
    return names


def drive(
    urls: list[str],
    robots: int,
    period_s: float,
    seconds: float,
    each_second: Callable[[float], None] | None = None,
) -> tuple[Tally, float]:
    """Robots at a pace for some time: (what they were answered, chunks a second)."""
    tallies, stop = [Tally() for _ in range(robots)], threading.Event()
    threads = [
        threading.Thread(target=robot, args=(urls[n % len(urls)], f"robot-{n}", period_s, stop, tallies[n]))
        for n in range(robots)
    ]
    for thread in threads:
        thread.start()
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        time.sleep(min(1.0, seconds))
        if each_second is not None:
            each_second(time.monotonic() - began)
    stop.set()
    for thread in threads:
        thread.join()
    whole = Tally()
    for one in tallies:
        whole.answered += one.answered
        whole.failed += one.failed
        whole.calls += one.calls
        whole.policies |= one.policies
    return whole, whole.answered / seconds


def latencies(calls: list[tuple[float, float]], unit: float = 1e3) -> dict[str, float] | None:
    """Percentiles of the times that calls took."""
    if not calls:
        return None
    took = [(end - begin) * unit for begin, end in calls]
    p50, p99, top = np.percentile(took, (50, 99, 100))
    return {"p50": round(p50, 2), "p99": round(p99, 2), "max": round(top, 2)}


def served(url: str) -> int:
    """Chunks that the server has sent to anybody since its start."""
    text = httpx.get(f"{url}/metrics", trust_env=False, timeout=30.0).text
    return sum(map(int, map(float, re.findall(r'^tinyvla_requests_total{code="ok",.*} (\S+)$', text, re.M))))


def mean_between(memory: list[tuple[float, float]], low: float, high: float) -> float:
    return float(np.mean([mb for at, mb in memory if low <= at < high]))


def main(settings: Settings) -> int:
    seconds = settings.minutes * 60
    with tempfile.TemporaryDirectory() as folder:
        bundles = copies(settings.bundle, Path(folder))
        flags = [
            "--bundle",
            str(Path(folder) / bundles[1]),
            "--bundle-root",
            folder,
            "--admin-token",
            "admin",
        ]
        with Served(flags) as server:
            urls = [server.http_url, server.zmq_url]
            _, can = drive(urls, settings.robots, 0.0, CALIBRATE_S)
            period_s = (settings.robots + 1) / (settings.load * can)  # the victim asks at the same pace
            print(
                f"{can:.1f} chunks/s at most; {settings.robots} robots and a victim every {period_s * 1e3:.0f} ms each"
            )

            stop, swaps, killed = threading.Event(), list[tuple[float, float]](), list[int]()
            memory: list[tuple[float, float]] = []
            beside = [
                threading.Thread(
                    target=swap, args=(server.http_url, bundles, settings.swap_every_s, stop, swaps)
                ),
                threading.Thread(
                    target=lambda: killed.append(kill_some(urls, period_s, settings.kill_every_s, stop))
                ),
            ]
            for thread in beside:
                thread.start()
            before, began = served(server.http_url), time.monotonic()
            tally, rate = drive(
                urls, settings.robots, period_s, seconds, lambda at: memory.append((at, server.rss_mb()))
            )
            all_rate = (served(server.http_url) - before) / (time.monotonic() - began)
            stop.set()
            for thread in beside:
                thread.join()
            _, could = drive(urls, settings.robots, 0.0, CALIBRATE_S)
    # The second minute, by when everything has been used once; a fifth of a run that is shorter than five.
    minute = min(60.0, seconds / 5)
    second, last = mean_between(memory, minute, 2 * minute), mean_between(memory, seconds - minute, np.inf)
    loading = [call for call in tally.calls if any(call[0] < end and call[1] > begin for begin, end in swaps)]
    report = {
        "minutes": settings.minutes,
        "capacity_per_s": {"before": can, "after": could},
        "offered_per_s": settings.load * can,
        "served_per_s": {"all": all_rate, "live robots": rate},
        "share_of_capacity": {"before": all_rate / can, "after": all_rate / could},
        "answered": tally.answered,
        "failed": dict(tally.failed),
        "latency_ms": latencies(tally.calls),
        "latency_ms_while_a_policy_loads": latencies(loading),
        "swaps": len(swaps),
        "swap_s": latencies([(begin, end) for begin, end in swaps], unit=1.0),
        "policies_seen": sorted(tally.policies),
        "killed_clients": killed[0],
        "rss_mb": {"second": second, "last": last, "ratio": last / second},
        "rss_mb_each_s": [round(mb, 1) for _, mb in memory],
    }
    print(json.dumps({key: value for key, value in report.items() if key != "rss_mb_each_s"}, indent=1))
    if settings.out is not None:
        settings.out.write_text(json.dumps(report, indent=1) + "\n")
    return 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Settings)))
