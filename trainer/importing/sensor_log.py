"""The 650 Hz stream of a session: samples, or overlapping windows of them taken apart again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clients.lerobot_v3.streams import STORED_DTYPE
from clients.robots.needle_rig_contract import ALINE_POINTS, SENSOR_CHANNELS, SENSOR_RATE_HZ
from trainer.importing.clocks import ascending
from trainer.importing.npz_rows import NpzDamaged, open_npz
from trainer.importing.report import SessionReport

_BLOCK = 4096  # samples: 17 MB
_LARGEST = float(np.finfo(STORED_DTYPE).max)


@dataclass(frozen=True)
class SensorLog:
    """N samples in order of time."""

    times: np.ndarray  # float64 [N], s on the sensor's clock, strictly ascending
    values: np.ndarray  # float16 [N, 1026]: force, then the A-line
    begins: (
        float  # s on the sensor's clock: when the recorder began to save it; what is older was in its buffer
    )

    @property
    def span(self) -> tuple[float, float]:
        return self.begins, float(self.times[-1])


def read_samples(paths: Sequence[Path], report: SessionReport) -> SensorLog | None:
    """`sensor_data_*.npz`: timestamps [N], forces [N], alines [N, 1025]; several files are parts of one stream.

    Raises:
        NpzDamaged: a file that cannot be read.
    """
    times: list[np.ndarray] = []
    values: list[np.ndarray] = []
    for path in paths:
        with open_npz(path, "timestamps", "forces", "alines") as (stamps, forces, alines):
            count = stamps.shape[0]
            if stamps.shape != (count,) or forces.shape != (count,) or alines.shape != (count, ALINE_POINTS):
                raise NpzDamaged(
                    f"timestamps {stamps.shape}, forces {forces.shape} and alines {alines.shape} do not go together"
                )
            told, force = stamps.read(count).astype(np.float64), forces.read(count)
            first = 0
            for block in alines.blocks(_BLOCK):
                rows = slice(first, first + len(block))
                kept, numbers = _usable(told[rows], np.column_stack([force[rows], block]), report)
                times.append(kept)
                values.append(numbers)
                first += len(block)
    return _log(times, values, None, report)


def read_windows(path: Path, report: SessionReport) -> SensorLog | None:
    """`sensor_data.npz`: timestamps [N] of each window's newest sample, data [N, 650, 1026], overlapping.

    What two windows share is found by its contents; the samples that are new in a window are spread evenly over the
    time since the one before it.

    Raises:
        NpzDamaged: the file cannot be read.
    """
    times: list[np.ndarray] = []
    values: list[np.ndarray] = []
    with open_npz(path, "timestamps", "data") as (stamps, data):
        count = stamps.shape[0]
        if stamps.shape != (count,) or len(data.shape) != 3 or data.shape[::2] != (count, SENSOR_CHANNELS):
            raise NpzDamaged(f"timestamps {stamps.shape} and data {data.shape} do not go together")
        told = stamps.read(count).astype(np.float64)
        finite = np.isfinite(told)
        in_order = finite.copy()
        in_order[finite] = ascending(told[finite])
        report.drop("sensor window: timestamp twice, backwards or no number", (~in_order).sum())
        before: tuple[float, np.ndarray] | None = None
        for newest, usable, window in zip(told.tolist(), in_order, data.blocks(1), strict=True):
            if not usable:
                continue
            own, new = _new_samples(newest, window[0], before)
            before = (newest, window[0][-1])
            kept, numbers = _usable(own, new, report)
            times.append(kept)
            values.append(numbers)
    begins = float(told[in_order][0]) if in_order.any() else None
    return _log(times, values, begins, report)


def _new_samples(
    newest: float, window: np.ndarray, before: tuple[float, np.ndarray] | None
) -> tuple[np.ndarray, np.ndarray]:
    """Times and rows of a window that the one before it, told by its newest time and sample, did not have."""
    even = newest - np.arange(len(window))[::-1] / SENSOR_RATE_HZ
    if before is None:
        return even, window
    earlier, sample = before
    same = np.flatnonzero((window == sample).all(1))
    if not len(same):  # nothing is shared: the stream had a gap
        new = even > earlier
        return even[new], window[new]
    # A sensor that stands still repeats itself; then the place where it should be decides.
    expected = len(window) - 1 - (newest - earlier) * SENSOR_RATE_HZ
    shared = int(same[np.argmin(np.abs(same - expected))])
    count = len(window) - 1 - shared
    return np.linspace(earlier, newest, count + 1)[1:], window[shared + 1 :]


def _usable(times: np.ndarray, values: np.ndarray, report: SessionReport) -> tuple[np.ndarray, np.ndarray]:
    """Samples that can be stored, as they are stored."""
    report.found["sensor samples"] += len(times)
    finite = np.isfinite(times) & np.isfinite(values).all(1)
    small = np.abs(np.where(np.isfinite(values), values, 0.0)).max(1, initial=0.0) <= _LARGEST
    report.drop("sensor sample: not finite", (~finite).sum())
    report.drop("sensor sample: too large for 16 bits", (finite & ~small).sum())
    usable = finite & small
    return times[usable], values[usable].astype(STORED_DTYPE)


def _log(
    times: Sequence[np.ndarray], values: Sequence[np.ndarray], begins: float | None, report: SessionReport
) -> SensorLog | None:
    if not sum(map(len, times)):
        return None
    all_times, all_values = np.concatenate(times), np.concatenate(values)
    in_order = ascending(all_times)
    report.drop("sensor sample: timestamp twice or backwards", (~in_order).sum())
    kept = all_times[in_order]
    return SensorLog(kept, all_values[in_order], float(kept[0]) if begins is None else begins)
