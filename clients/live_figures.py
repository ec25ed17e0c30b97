"""What a running episode looks like right now: rates, latencies, buffer, safety."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from clients.episode import Episode
from clients.safety_limits import Cause

# Of control periods and of requests: some seconds, so that a change shows soon.
RATE_OVER_S = 2.0
REQUESTS = 10
# Newest values of a stage; percentiles of all would take the control thread's time.
VALUES = 256
# Shown, with the percentile that matters.
STAGES = {
    "round_trip_ms": ("round trip", 50),
    "server_total_ms": ("server", 50),
    "capture_ms": ("capture", 50),
    "reaction_ms": ("capture to action", 50),
    "control_jitter_ms": ("jitter p99", 99),
}


@dataclass(frozen=True)
class LiveFigures:
    """One look; what is not known yet is None."""

    step: int
    control_hz: float | None  # over the last two seconds
    inference_hz: float | None  # over the last ten requests
    planned: int  # control steps ahead
    horizon: int
    latencies: Mapping[str, float]  # name for people -> ms, of the newest values
    requests: Mapping[str, int]  # outcome -> count
    active: tuple[Cause, ...]  # what the safety layer is doing something about
    onsets: Mapping[Cause, int]  # how often it began to


def look(episode: Episode) -> LiveFigures:
    """Safe while the episode's own threads go on."""
    trace, interventions = episode.trace, dict(episode.safety.interventions)
    latencies = {
        name: float(np.percentile(values, percentile))
        for stage, (name, percentile) in STAGES.items()
        if len(values := trace.stages[stage].newest(VALUES))
    }
    asked = episode.settings.control_rate_hz
    return LiveFigures(
        step=episode.step,
        control_hz=_rate([step.at for step in _last(trace.steps, round(asked * RATE_OVER_S))]),
        inference_hz=_rate([request.sent_at for request in _last(trace.requests, REQUESTS)]),
        planned=episode.remaining,
        horizon=episode.spec.horizon,
        latencies=latencies,
        requests=dict(trace.outcomes),
        active=tuple(cause for cause, seen in interventions.items() if seen.active),
        onsets={cause: seen.onsets for cause, seen in interventions.items() if seen.onsets},
    )


def _last(records, count: int) -> list:
    """The newest of a deque that another thread appends to, oldest first."""
    return list(records)[-count:]


def _rate(times: list[float]) -> float | None:
    return (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 and times[-1] > times[0] else None
