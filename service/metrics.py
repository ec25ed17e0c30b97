"""What Prometheus is told, in a registry of its own so that several servers can live in one process."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from service.device_memory import memory_probes
from service.policy_set import ServedPolicy
from service.status.history import History, Summary
from service.wire.messages import Timing

DOORS = ("http", "zmq", "openpi", "groot")
_STAGES = ("decode", "queue", "encode", "sample", "total")
# Runs and replies that may wait to be sorted into buckets: a tenth of a millisecond, all together.
_UNTOLD = 32
# From a header's parsing (0.1 ms) to a run that no robot waits for (10 s).
_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


@dataclass(frozen=True)
class _Run:
    batch: int  # requests that shared it
    queue: int  # requests that it left waiting


class Metrics:
    """Counters and histograms of one server; every method may be called from any thread."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.history = History()  # the last minutes, for the status page
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "tinyvla_requests",
            "Requests answered, by door and code.",
            ["door", "code"],
            registry=self.registry,
        )
        self._stages = Histogram(
            "tinyvla_stage_seconds",
            "Time of one request in each stage.",
            ["stage"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._untold: deque[tuple[float, Timing | _Run]] = deque()  # with when it was, by the monotonic clock
        # Looking a label up takes longer than counting, and this is done for every request.
        self._by_stage = [(stage, self._stages.labels(stage)) for stage in _STAGES]
        self._by_answer: dict[tuple[str, str], Counter] = {}
        self._batch = Histogram(
            "tinyvla_batch_size",
            "Requests that shared a run.",
            buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=self.registry,
        )
        self.queue_depth: Callable[[], int] = lambda: 0
        self._depth = Gauge("tinyvla_queue_depth", "Requests waiting for a run.", registry=self.registry)
        self._superseded = Counter(
            "tinyvla_superseded", "Waiting requests replaced by a newer one.", registry=self.registry
        )
        self._missed = Counter(
            "tinyvla_deadline_missed", "Requests dropped after their deadline.", registry=self.registry
        )
        self._reused = Counter(
            "tinyvla_features_reused", "Requests that reused what was seen before.", registry=self.registry
        )
        self._policy = Gauge(
            "tinyvla_policy_info",
            "A loaded policy; 1.",
            ["policy", "runtime", "device"],
            registry=self.registry,
        )
        self._active = Gauge(
            "tinyvla_policy_active",
            "1 for the policy that answers requests which name none.",
            ["policy"],
            registry=self.registry,
        )
        self._loads = Counter(
            "tinyvla_policy_loads",
            "Policies that were loaded, or refused.",
            ["outcome"],
            registry=self.registry,
        )
        # There from the start: Prometheus sees no rise in a series that begins with its first event, and alerts on one.
        for door in DOORS:
            self._requests.labels(door, "internal")
        for outcome in ("ok", "refused"):
            self._loads.labels(outcome)
        self._memory = Gauge(
            "tinyvla_device_memory_bytes",
            "Memory of the devices that policies run on; of the processor what this process uses.",
            ["device", "kind"],
            registry=self.registry,
        )
        self._devices: set[str] = set()  # of `_memory`
        ProcessCollector(registry=self.registry)
        self._listed: set[tuple[str, str, str]] = set()  # of `_policy`

    def answered(self, door: str, code: str) -> None:
        """One reply left: `code` is "ok" or the error's."""
        counter = self._by_answer.get((door, code))
        if counter is None:
            counter = self._by_answer[door, code] = self._requests.labels(door, code)
        counter.inc()
        if code != "ok":
            self.history.refused(code, time.monotonic())

    def answers(self) -> list[tuple[str, str, int]]:
        """(door, code, replies) since the start."""
        return [
            (sample.labels["door"], sample.labels["code"], int(sample.value))
            for family in self._requests.collect()
            for sample in family.samples
            if sample.name.endswith("_total") and sample.value
        ]

    def replied(self, timing: Timing) -> None:
        """One chunk was drawn for a request."""
        self._note(timing)

    def ran(self, batch: int, queue: int) -> None:
        """The runtime ran once, for `batch` requests, and left `queue` waiting."""
        self._note(_Run(batch, queue))

    def summaries(self, now: float) -> list[Summary]:
        """The last minutes; see `History.summaries`."""
        self._tell()
        return self.history.summaries(now)

    def _note(self, what: Timing | _Run) -> None:
        self._untold.append((time.monotonic(), what))
        if len(self._untold) >= _UNTOLD:
            self._tell()

    def _tell(self) -> None:
        """Sort what has come since the last time into buckets, which takes longer than a null policy's run."""
        while self._untold:
            try:
                at, what = self._untold.popleft()
            except IndexError:  # another thread does the same
                return
            if isinstance(what, _Run):
                self._batch.observe(what.batch)
                self.history.ran(what.batch, what.queue, at)
                continue
            self.history.replied(what.total, at)
            for stage, histogram in self._by_stage:
                histogram.observe(getattr(what, stage) / 1e3)

    def superseded(self) -> None:
        """A waiting request was replaced."""
        self._superseded.inc()

    def deadline_missed(self) -> None:
        """A request was dropped because it had become too old."""
        self._missed.inc()

    def watch_queue(self, depth: Callable[[], int]) -> None:
        """Read the queue's depth when scraped."""
        self.queue_depth = depth
        self._depth.set_function(depth)

    def reused(self) -> None:
        """A request was answered from features of an earlier one."""
        self._reused.inc()

    def loaded(self, outcome: Literal["ok", "refused"]) -> None:
        """A policy was loaded, or did not pass."""
        self._loads.labels(outcome).inc()

    def serving(self, policies: Sequence[ServedPolicy], active: ServedPolicy) -> None:
        """Tell which policies are loaded; one caller at a time."""
        listed = {(policy.label, policy.runtime, policy.device) for policy in policies}
        for gone in self._listed - listed:
            self._policy.remove(*gone)
            self._active.remove(gone[0])
        for one in listed:
            self._policy.labels(*one).set(1)
            self._active.labels(one[0]).set(one[0] == active.label)
        self._listed = listed
        for device in {policy.device for policy in policies} - self._devices:
            self._devices.add(device)
            for kind, probe in memory_probes(device).items():
                self._memory.labels(device, kind).set_function(probe)

    def text(self) -> bytes:
        """Prometheus' text format."""
        self._tell()
        return generate_latest(self.registry)
