"""What the status page asks for every second: one JSON map of the server as it is now."""

from __future__ import annotations

import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from policy.spec import PolicySpec
from service.metrics import Metrics
from service.policy_set import ServedPolicy
from service.status.history import INTERVAL_S, KEPT, Summary
from service.status.sessions import SILENT_S, Seen, SessionWatch

_DIGITS = 5  # of a number on a plot


def status_map(
    policies: Sequence[ServedPolicy], active: str | None, metrics: Metrics, watch: SessionWatch, now: float
) -> dict[str, Any]:
    """Everything on the page. Encodes the frames it shows, so it belongs on a thread where that is no harm.

    Args:
        policies: those that are loaded.
        active: label of the one that answers requests which name none; None while it loads.
        metrics: what was counted since the start.
        watch: what each session saw last; asking keeps it watching.
        now: seconds of the monotonic clock.
    """
    offset = time.time() - now  # the page shows wall-clock times
    sessions = [
        _session(seen, rate, now, {policy.label: policy.spec for policy in policies})
        for seen, rate in watch.look(now)
    ]
    return {
        "version": _version(),
        "uptime_s": now - metrics.started,
        "ready": active is not None,
        "active": active,
        "policies": [_policy(policy, policy.label == active) for policy in policies],
        "queue": metrics.queue_depth(),
        "history": _history(metrics.summaries(now), offset),
        "answered": [{"door": door, "code": code, "count": count} for door, code, count in metrics.answers()],
        "sessions": sessions,
    }


def _policy(policy: ServedPolicy, active: bool) -> dict[str, Any]:
    spec = policy.spec
    return {
        "name": spec.name,
        "label": policy.label,
        "hash": spec.hash,
        "active": active,
        "runtime": policy.runtime,
        "device": policy.device,
        "why": policy.why,
        "source": policy.source,
        "head": spec.head,
        "horizon": spec.horizon,
        "rate_hz": spec.action.rate_hz,
        "cameras": [f"{camera.name} {camera.width} x {camera.height}" for camera in spec.cameras],
        "measured": [dict(row) for row in spec.measured],
    }


def _history(summaries: Sequence[Summary], offset: float) -> dict[str, Any]:
    def latency(rank: int) -> list[float | None]:
        return [None if s.latency_ms is None else round(s.latency_ms[rank], 3) for s in summaries]

    return {
        "interval_s": INTERVAL_S,
        "kept": KEPT,
        "time": [round(s.begins + offset, 3) for s in summaries],  # seconds since 1970
        "p50_ms": latency(0),
        "p95_ms": latency(1),
        "p99_ms": latency(2),
        "max_ms": latency(3),
        "replies": [s.replies for s in summaries],
        "batch": [s.batch for s in summaries],
        "queue": [s.queue for s in summaries],
        "errors": [s.errors for s in summaries],
    }


def _session(seen: Seen, rate: float | None, now: float, specs: dict[str, PolicySpec]) -> dict[str, Any]:
    reply, spec = seen.reply, specs.get(seen.reply.policy)
    return {
        "session": seen.session,
        "policy": reply.policy,
        "instruction": seen.instruction,
        "seq": reply.seq,
        "age_s": now - seen.at,
        "silent": now - seen.at > SILENT_S,
        "rate_hz": rate,
        "total_ms": reply.timing_ms.total,
        "batch": reply.timing_ms.batch,
        "ddim_steps": reply.ddim_steps,
        "frames": [
            {"camera": name, "width": frame.width, "height": frame.height, "url": frame.data_url()}
            for name, frame in seen.frames.items()
        ],
        "state": None if spec is None else _named(spec.state.names, spec.state.units, seen.state.tolist()),
        "chunk": {
            "rate_hz": reply.rate_hz,
            "prefix": seen.prefix,
            "actions": [[_short(x) for x in row] for row in reply.actions.T.tolist()],  # [A][horizon]
            "axes": None if spec is None else _axes(spec),
        },
    }


def _axes(spec: PolicySpec) -> list[dict[str, Any]]:
    action = spec.action
    return [
        {"name": name, "units": units, "low": low, "high": high}
        for name, units, low, high in zip(action.names, action.units, action.low, action.high, strict=True)
    ]


def _named(names: Sequence[str], units: Sequence[str], values: Sequence[float]) -> list[dict[str, Any]]:
    return [
        {"name": name, "units": unit, "value": _short(value)}
        for name, unit, value in zip(names, units, values, strict=False)
    ]


def _short(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def _version() -> str | None:
    try:
        return version("tinyvla")
    except PackageNotFoundError:
        return None  # run from a checkout that was never installed
