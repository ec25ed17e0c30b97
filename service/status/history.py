"""The last minutes in short intervals: latency percentiles, rates, batch sizes, queue depth, errors by code."""

from __future__ import annotations

import threading
from array import array
from collections import Counter, deque
from dataclasses import dataclass, field

import numpy as np

INTERVAL_S = 2.0
KEPT = 150  # intervals: five minutes
_SAMPLES = 4096  # latencies of one interval that are kept; what a busier server adds is only counted


@dataclass(frozen=True)
class Summary:
    """One closed interval."""

    begins: float  # seconds of the monotonic clock
    replies: int  # chunks drawn
    latency_ms: tuple[float, float, float, float] | None  # p50, p95, p99, max; None without replies
    batch: float | None  # mean number of requests that shared a run; None without runs
    queue: int  # deepest queue that a run left behind
    errors: dict[str, int]  # code -> refusals


@dataclass
class _Interval:
    begins: float
    replies: int = 0
    latencies: array[float] = field(default_factory=lambda: array("f"))
    runs: int = 0
    requests_run: int = 0
    queue: int = 0
    errors: Counter[str] = field(default_factory=Counter)

    def summary(self) -> Summary:
        latency = None
        if self.latencies:
            p50, p95, p99, top = np.percentile(self.latencies, (50, 95, 99, 100))
            latency = (float(p50), float(p95), float(p99), float(top))
        return Summary(
            begins=self.begins,
            replies=self.replies,
            latency_ms=latency,
            batch=self.requests_run / self.runs if self.runs else None,
            queue=self.queue,
            errors=dict(self.errors),
        )


class History:
    """Told of every reply, run and refusal, from any thread; percentiles are computed when somebody asks.

    Every method takes the time: seconds of the monotonic clock.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._intervals: deque[_Interval] = deque(maxlen=KEPT + 1)  # the last one is still open
        # What was summed up once stays as it is: intervals that are closed.
        self._summaries: dict[float, Summary] = {}

    def replied(self, total_ms: float, now: float) -> None:
        """A chunk was drawn `total_ms` after its request arrived."""
        with self._lock:
            interval = self._at(now)
            interval.replies += 1
            if len(interval.latencies) < _SAMPLES:
                interval.latencies.append(total_ms)

    def ran(self, batch: int, queue: int, now: float) -> None:
        """The runtime ran for `batch` requests while `queue` others waited."""
        with self._lock:
            interval = self._at(now)
            interval.runs += 1
            interval.requests_run += batch
            interval.queue = max(interval.queue, queue)

    def refused(self, code: str, now: float) -> None:
        """A request was answered with an error."""
        with self._lock:
            self._at(now).errors[code] += 1

    def summaries(self, now: float) -> list[Summary]:
        """The `KEPT` intervals before the one that is still open, oldest first, quiet ones included."""
        open_at = now // INTERVAL_S * INTERVAL_S
        with self._lock:
            closed = [i for i in self._intervals if open_at - KEPT * INTERVAL_S <= i.begins < open_at]
        known = self._summaries
        summaries = {i.begins: known.get(i.begins) or i.summary() for i in closed}
        self._summaries = summaries
        begins = [open_at - k * INTERVAL_S for k in range(KEPT, 0, -1)]
        return [summaries.get(at) or _Interval(at).summary() for at in begins]

    def _at(self, now: float) -> _Interval:
        """The open interval; a thread that comes late is counted in the newest one."""
        begins = now // INTERVAL_S * INTERVAL_S
        if not self._intervals or self._intervals[-1].begins < begins:
            self._intervals.append(_Interval(begins))
        return self._intervals[-1]
