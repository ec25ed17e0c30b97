"""What Prometheus is told, in a registry of its own so that several servers can live in one process."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from service.wire.messages import Timing

_STAGES = ("decode", "queue", "encode", "sample", "total")
# From a header's parsing (0.1 ms) to a run that no robot waits for (10 s).
_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Metrics:
    """Counters and histograms of one server; every method may be called from any thread."""

    def __init__(self) -> None:
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
        self._batch = Histogram(
            "tinyvla_batch_size",
            "Requests that shared a run.",
            buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=self.registry,
        )
        self._depth = Gauge("tinyvla_queue_depth", "Requests waiting for a run.", registry=self.registry)
        self._superseded = Counter(
            "tinyvla_superseded", "Waiting requests replaced by a newer one.", registry=self.registry
        )
        self._missed = Counter(
            "tinyvla_deadline_missed", "Requests dropped after their deadline.", registry=self.registry
        )
        self._policy = Gauge(
            "tinyvla_policy_info",
            "The policy being served.",
            ["policy", "runtime", "device"],
            registry=self.registry,
        )

    def answered(self, door: str, code: str) -> None:
        """One reply left: `code` is "ok" or the error's."""
        self._requests.labels(door, code).inc()

    def replied(self, timing: Timing) -> None:
        """One chunk was drawn for a request."""
        for stage in _STAGES:
            self._stages.labels(stage).observe(getattr(timing, stage) / 1e3)

    def ran(self, batch: int) -> None:
        """The runtime ran once."""
        self._batch.observe(batch)

    def superseded(self) -> None:
        """A waiting request was replaced."""
        self._superseded.inc()

    def deadline_missed(self) -> None:
        """A request was dropped because it had become too old."""
        self._missed.inc()

    def watch_queue(self, depth: Callable[[], int]) -> None:
        """Read the queue's depth when scraped."""
        self._depth.set_function(depth)

    def serving(self, policy: str, runtime: str, device: str) -> None:
        """Tell which policy answers."""
        self._policy.labels(policy, runtime, device).set(1)

    def text(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self.registry)
