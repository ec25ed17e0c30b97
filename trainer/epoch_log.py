"""The run's own record, one JSON line an epoch, for programs: `epochs.jsonl` in the run directory."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

from trainer.epoch_report import EpochReport

EPOCHS = "epochs.jsonl"


def _plain(value: Any) -> Any:
    """JSON has no NaN: what was not measured is null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def append_epoch(path: Path, report: EpochReport) -> None:
    """Add a line."""
    values = {name: _plain(value) for name, value in dataclasses.asdict(report).items()}
    with path.open("a") as file:
        file.write(json.dumps(values, allow_nan=False) + "\n")


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
            read: dict[str, Any] = {
                name: math.nan if values[name] is None else values[name] for name in names if name in values
            }
            report = EpochReport(**read)
        except (json.JSONDecodeError, TypeError):
            continue  # cut off by a kill
        found[report.epoch] = report
    return tuple(found[epoch] for epoch in sorted(found))
