"""The facts of a run: one map per episode, per task and for the whole, as `report.json` holds them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from clients.episode_trace import STAGES
from clients.measurements import Measurements
from clients.plain_json import plain
from clients.receiver import EpisodeOutcome
from policy.errors import UsageError
from policy.spec import PolicySpec

FORMAT = "tinyvla-realtime-report/1"


def episode_report(outcome: EpisodeOutcome) -> dict[str, Any]:
    """One episode in plain numbers; what was not measured is null."""
    trace = outcome.trace
    sent = [record.sent_at for record in trace.requests]
    return {
        "task": outcome.task,
        "seed": outcome.seed,
        "success": outcome.success,
        "interrupted": outcome.interrupted,
        "stopped": outcome.stopped,
        "seconds": round(outcome.ended_at - outcome.started_at, 3),
        "control_periods": outcome.ticks,
        "executed": trace.executed,
        "waited": trace.waited,
        "held": trace.held,
        "control_rate_hz": _rounded(outcome.achieved_hz),
        "inference_rate_hz": _rounded((len(sent) - 1) / (sent[-1] - sent[0]) if len(sent) > 1 else None),
        "deadline_misses": outcome.skipped,
        "real_time_priority": trace.real_time_priority,
        "requests": dict(trace.outcomes),
        "policies": dict(trace.policies),
        "safety": outcome.safety,
        "robot": plain(outcome.robot) or None,
        "seams": {
            key: _rounded(value) if isinstance(value, float) else value
            for key, value in asdict(outcome.smoothness).items()
        },
        "stages": {name: measured.summary() for name, measured in trace.stages.items()},
    }


def run_report(
    outcomes: Sequence[EpisodeOutcome],
    spec: PolicySpec,
    settings: Mapping[str, Any],
    recording: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The whole run.

    Args:
        outcomes: of its episodes.
        spec: the policy's contract.
        settings: what was asked for, JSON-able.
        recording: what --save-data came to, JSON-able; None where nothing was recorded.
    """
    episodes = [episode_report(outcome) for outcome in outcomes]
    tasks = list(dict.fromkeys(outcome.task for outcome in outcomes))
    return {
        "format": FORMAT,
        "policy": spec.label,
        "settings": dict(settings),
        "recording": None if recording is None else dict(recording),
        "chunk_policy": outcomes[0].chunk_policy if outcomes else None,
        "overall": _together(outcomes, episodes),
        "tasks": {
            task: _together(
                [o for o in outcomes if o.task == task], [e for e in episodes if e["task"] == task]
            )
            for task in tasks
        },
        "episodes": episodes,
    }


def _together(outcomes: Sequence[EpisodeOutcome], episodes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    stages = {}
    for name in STAGES:
        merged = Measurements()
        for outcome in outcomes:
            merged.merge(outcome.trace.stages[name])
        stages[name] = merged.summary()
    successes = sum(episode["success"] for episode in episodes)
    return {
        "episodes": len(episodes),
        "successes": successes,
        "success_rate": round(successes / len(episodes), 4) if episodes else None,
        "periods_to_success": _mean(e["control_periods"] for e in episodes if e["success"]),
        "control_rate_hz": _mean(e["control_rate_hz"] for e in episodes),
        "inference_rate_hz": _mean(e["inference_rate_hz"] for e in episodes),
        "deadline_misses": sum(e["deadline_misses"] for e in episodes),
        "starved_periods": sum(e["safety"].get("starved", {"steps": 0})["steps"] for e in episodes),
        "stale_periods": sum(outcome.trace.stale for outcome in outcomes),
        "held_periods": sum(e["held"] for e in episodes),
        "safety_onsets": _added({cause: c["onsets"] for cause, c in e["safety"].items()} for e in episodes),
        "safety_periods": _added({cause: c["steps"] for cause, c in e["safety"].items()} for e in episodes),
        "stopped": _added({e["stopped"]: 1} for e in episodes if e["stopped"] is not None),
        "requests": _added(e["requests"] for e in episodes),
        "seam_jump_ratio": _mean(e["seams"]["seam_jump_ratio"] for e in episodes),
        "jerk": _mean(e["seams"]["jerk"] for e in episodes),
        "stages": stages,
    }


def check_out(directory: Path) -> None:
    """Make the directory of a report and try to write there: before a robot moves, not after.

    Raises:
        UsageError: nothing can be written there.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory) as probe:
            probe.write(b"\n")
    except OSError as error:
        raise UsageError(f"--out {directory}: cannot be written ({error.strerror or error})") from None


def write_report(path: Path, report: Mapping[str, Any]) -> None:
    """Whole or not at all.

    Raises:
        UsageError: it cannot be written.
    """
    text = json.dumps(report, indent=2, allow_nan=False) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        temporary.write_text(text)
        temporary.replace(path)
    except OSError as error:
        raise UsageError(f"no report: {path} cannot be written ({error.strerror or error})") from None


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return _rounded(sum(known) / len(known)) if known else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _added(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for count in counts:
        for key, number in count.items():
            total[key] = total.get(key, 0) + number
    return total
