"""The report as a person reads it at the end of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

_STAGE_NAMES = {
    "capture_ms": "capture",
    "round_trip_ms": "request to reply",
    "server_decode_ms": "  server: decode",
    "server_queue_ms": "  server: queue",
    "server_encode_ms": "  server: encode",
    "server_sample_ms": "  server: sample",
    "transport_ms": "  transport",
    "reaction_ms": "capture to action",
    "control_jitter_ms": "control jitter",
    "control_work_ms": "control work",
}


def print_report(console: Console, report: Mapping[str, Any]) -> None:
    """Two tables (tasks, latencies) and what went wrong, if anything did."""
    tasks = Table(title=f"{report['policy']}, chunk policy {report['chunk_policy']}", title_justify="left")
    tasks.add_column("task")
    for name in (
        "success",
        "periods to success",
        "control Hz",
        "inference Hz",
        "missed",
        "starved",
        "stale",
        "seam ratio",
        "jerk",
    ):
        tasks.add_column(name, justify="right")
    rows = list(report["tasks"].items())
    if len(rows) > 1:
        rows.append(("all", report["overall"]))
    for name, row in rows:
        tasks.add_row(
            name,
            f"{row['successes']}/{row['episodes']}",
            _number(row["periods_to_success"], 0),
            _number(row["control_rate_hz"], 2),
            _number(row["inference_rate_hz"], 2),
            str(row["deadline_misses"]),
            str(row["starved_periods"]),
            str(row["stale_periods"]),
            _number(row["seam_jump_ratio"], 2),
            _number(row["jerk"], 1),
            end_section=name == rows[-1][0],
        )
    console.print(tasks)

    overall = report["overall"]
    stages = Table(title="milliseconds", title_justify="left")
    stages.add_column("stage")
    for name in ("p50", "p95", "p99", "max"):
        stages.add_column(name, justify="right")
    for key, name in _STAGE_NAMES.items():
        if summary := overall["stages"][key]:
            stages.add_row(name, *(_number(summary[p], 2) for p in ("p50", "p95", "p99", "max")))
    console.print(stages)
    if consumed := overall["stages"]["consumed_steps"]:
        console.print(
            f"control steps executed while a chunk was made: {consumed['p50']:.0f} (p50), {consumed['max']:.0f} (max)"
        )
    for cause, onsets in overall["safety_onsets"].items():
        periods = overall["safety_periods"][cause]
        console.print(f"safety: {cause} {onsets} x, {periods} control periods in all")
    if overall["stopped"]:
        console.print(f"episodes stopped by the safety layer: {_listed(overall['stopped'])}")
    failed = {key: count for key, count in overall["requests"].items() if key != "accepted"}
    if failed:
        console.print(f"requests not used: {_listed(failed)}")
    if (recording := report["recording"]) and recording["lost"]:
        console.print(
            f"recording: {recording['frames']} frames, {recording['lost']} lost ({recording['skipped']} before the "
            f"camera, {recording['unusable']} unusable, {recording['dropped']} before the disk)"
        )


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} x {name}" for name, count in counts.items())
