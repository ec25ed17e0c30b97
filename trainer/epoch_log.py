"""The run's own record, one JSON line an epoch, for programs: `epochs.jsonl` in the run directory."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

from clients.plain_json import plain
from trainer.epoch_report import EpochReport

EPOCHS = "epochs.jsonl"


def _read(value: Any) -> Any:
    """What was not measured, or not finite, is null in the file."""
    if isinstance(value, dict):
        return {name: _read(part) for name, part in value.items()}
    return math.nan if value is None else value


def append_epoch(path: Path, report: EpochReport) -> None:
    """Add a line."""
    values = plain(dataclasses.asdict(report))
    before = path.read_text() if path.exists() else ""
    apart = "\n" if before and not before.endswith("\n") else ""  # from a line that was cut off
    with path.open("a") as file:
        file.write(apart + json.dumps(values, allow_nan=False) + "\n")


def read_epochs(path: Path) -> tuple[EpochReport, ...]:
    """The epochs in order; of one that was told twice, around a kill, the later line counts."""
    if not path.exists():
        return ()
    found: dict[int, EpochReport] = {}
    # A field with a default is younger than some logs.
    names = [field.name for field in dataclasses.fields(EpochReport)]
    for line in path.read_text().splitlines():
        try:
            values = json.loads(line)
            read: dict[str, Any] = {name: _read(values[name]) for name in names if name in values}
            report = EpochReport(**read)
        except (json.JSONDecodeError, TypeError):
            continue  # cut off by a kill
        found[report.epoch] = report
    return tuple(found[epoch] for epoch in sorted(found))
