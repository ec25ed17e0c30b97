"""The robot's states of a session: read from its CSV, put on the recorder's clock, asked for at any instant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clients.robots.needle_rig_contract import JOINT_NAMES, POSE_NAMES
from clients.robots.needle_rig_memory import LONGEST_HELD_S
from trainer.importing.clocks import ascending, offsets_to_receiver
from trainer.importing.report import LeftOut, SessionReport

_TIMES = ("recv_timestamp", "origin_timestamp", "send_timestamp")
# In the order of the contract's state, which is not that of the file.
_COLUMNS = (*_TIMES, *(f"pose_{name}" for name in POSE_NAMES), *JOINT_NAMES)
_ANGLES = slice(3, 12)  # of the state: pose a b r, then the joints; degrees
_TOLD_OFFSET_S = 0.05


@dataclass(frozen=True)
class RobotLog:
    """N states in order of time."""

    times: np.ndarray  # float64 [N], s on the recorder's clock, strictly ascending
    states: np.ndarray  # float64 [N, 12]: pose, then joints; mm and degrees

    @property
    def span(self) -> tuple[float, float]:
        return float(self.times[0]), float(self.times[-1])

    def at(self, times: np.ndarray) -> np.ndarray:
        """float64 [..., 12]: states between the recorded ones, angles the short way round.

        Angles go on past 180 degrees instead of wrapping, so that differences need no care; `wrap_like` undoes it.
        """
        unwrapped = self.states.copy()
        unwrapped[:, _ANGLES] = np.unwrap(self.states[:, _ANGLES], period=360.0, axis=0)
        columns = [np.interp(times, self.times, column) for column in unwrapped.T]
        return np.stack(columns, -1)

    def wrap_like(self, states: np.ndarray, times: np.ndarray) -> np.ndarray:
        """States of `at` with their angles on the turn that the robot reported at the time."""
        places = np.clip(np.searchsorted(self.times, times, side="right") - 1, 0, None)
        turned = states.copy()
        reported = self.states[places][..., _ANGLES]
        turned[..., _ANGLES] -= 360.0 * np.round((states[..., _ANGLES] - reported) / 360.0)
        return turned


def read_robot_log(paths: Sequence[Path], report: SessionReport) -> RobotLog:
    """The states of one session.

    Raises:
        LeftOut: no file, a column missing, or fewer than two states to be believed.
    """
    rows: list[list[float]] = []
    for path in paths:
        rows += _rows(path, report)
    table = np.array(rows, np.float64).reshape(-1, len(_COLUMNS))
    with np.errstate(over="ignore"):
        finite = np.isfinite(table.astype(np.float32)).all(1)  # as it will be stored
    report.drop("robot state: not finite", (~finite).sum())
    table = table[finite]
    if len(table) < 2:
        raise LeftOut("no robot states")
    received, origin, sent = table[:, 0], table[:, 1], table[:, 2]
    offsets = offsets_to_receiver(sent, received)
    believed = np.isfinite(offsets) & (np.abs(sent - origin) <= LONGEST_HELD_S)
    report.drop("robot state: timestamp far from all others", (~believed).sum())
    times, table = (origin + offsets)[believed], table[believed]
    in_order = ascending(times)
    report.drop("robot state: timestamp twice or backwards", (~in_order).sum())
    if in_order.sum() < 2:
        raise LeftOut("no robot states whose timestamps can be believed")
    offset = float(np.median(offsets[np.isfinite(offsets)]))
    if abs(offset) > _TOLD_OFFSET_S:
        report.notes.append(f"the robot's clock is {-offset:+.3f} s from the recorder's; corrected")
    return RobotLog(times[in_order], table[in_order, len(_TIMES) :])


def _rows(path: Path, report: SessionReport) -> list[list[float]]:
    """Rows that can be read as numbers, columns by name."""
    rows: list[list[float]] = []
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        header = [name.strip(' "\r\n') for name in file.readline().split(",")]
        missing = [name for name in _COLUMNS if name not in header]
        if missing:
            raise LeftOut(f"{path.name} has no column {missing[0]}")
        places = [header.index(name) for name in _COLUMNS]
        for line in file:
            report.found["robot states"] += 1
            cells = line.split(",")
            try:
                rows.append([float(cells[place]) for place in places])
            except (ValueError, IndexError):
                report.drop("robot state: row that cannot be read", 1)
    return rows
