"""An epoch's line and record: errors in the units of their robot, and logs that are older than a field."""

from __future__ import annotations

import json
import math
from dataclasses import replace

from trainer.epoch_log import append_epoch, read_epochs
from trainer.epoch_report import EpochReport

REPORT = EpochReport(
    epoch=0, loss=0.5, validation=0.6, auxiliary=0.1, gradient_norm=1.0, learning_rate=1e-4, memory_mb=100.0,
    samples_per_second=50.0, position_errors={"goal_x": 0.01, "goal_y": 0.03}, skipped=0,
)  # fmt: skip


def test_errors_are_told_in_the_units_of_the_targets() -> None:
    assert REPORT.line().endswith("Position error: 2.0 cm")
    assert REPORT.scalars()["error_m/goal_x"] == 0.01
    errors = {"tip_x": 0.1, "tip_y": 0.2, "turn_x": 0.5}
    rig = replace(
        REPORT, position_errors=errors, position_units={"tip_x": "mm", "tip_y": "mm", "turn_x": "deg"}
    )
    assert rig.line().endswith("Position error: 0.150 mm, 0.500 deg")
    assert rig.scalars()["error_deg/turn_x"] == 0.5


def test_what_a_policy_does_without_its_sensors_is_told_where_it_was_measured() -> None:
    assert "without" not in REPORT.line()
    assert "loss/validation_without_sensors" not in REPORT.scalars()
    told = replace(REPORT, validation_without_sensors=0.7)
    assert "| Val: 0.6000 | Val without sensors: 0.7000 |" in told.line()
    assert told.scalars()["loss/validation_without_sensors"] == 0.7


def test_an_older_log_lacks_the_younger_fields_and_no_others(tmp_path) -> None:
    path = tmp_path / "epochs.jsonl"
    append_epoch(path, REPORT)
    older = json.loads(path.read_text())
    del older["validation_without_sensors"], older["position_units"]
    broken = {name: value for name, value in older.items() if name != "loss"} | {"epoch": 1}
    path.write_text("".join(json.dumps(line) + "\n" for line in (older, broken)))
    (read,) = read_epochs(path)
    assert math.isnan(read.validation_without_sensors)
    assert read.loss == 0.5


def test_a_line_that_was_cut_off_takes_no_other_with_it(tmp_path) -> None:
    path = tmp_path / "epochs.jsonl"
    append_epoch(path, REPORT)
    path.write_text(path.read_text()[:100])  # the disk was full
    for epoch in (1, 2):
        append_epoch(path, replace(REPORT, epoch=epoch))
    assert [report.epoch for report in read_epochs(path)] == [1, 2]
