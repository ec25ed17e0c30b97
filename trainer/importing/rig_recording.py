"""A session of the needle rig as every layout of it tells: pictures of each view, robot states, perhaps a sensor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.importing.npz_rows import NpzDamaged
from trainer.importing.pictures import Pictures, list_pictures
from trainer.importing.report import LeftOut, SessionReport
from trainer.importing.robot_log import RobotLog
from trainer.importing.sensor_log import SensorLog


@dataclass(frozen=True)
class RigRecording:
    """One session; each stream is in order of its own host's time, the robot's on the recorder's clock."""

    pictures: Mapping[str, Pictures]  # by view
    robot: RobotLog
    sensor: SensorLog | None


def list_views(directories: Mapping[str, Path], report: SessionReport) -> dict[str, Pictures]:
    """The pictures of every view.

    Raises:
        LeftOut: a view has none.
    """
    views = {}
    for view, directory in directories.items():
        if not directory.is_dir():
            raise LeftOut(f"{view} is missing")
        views[view] = list_pictures(directory, report)
        if not len(views[view]):
            raise LeftOut(f"{view} has no pictures")
    return views


def read_sensor(
    paths: Sequence[Path], read: Callable[[], SensorLog | None], report: SessionReport
) -> SensorLog | None:
    """The session's stream; None, and a note, where there is none or it is damaged: the rest is of use without it."""
    if not paths:
        report.notes.append("no sensor data; its windows will be masked")
        return None
    try:
        log = read()
    except NpzDamaged as error:
        report.notes.append(f"sensor data left out, {paths[0].name} is damaged: {error}")
        report.drop("sensor file: damaged", 1)
        return None
    if log is None:
        report.notes.append("the sensor data hold no sample; its windows will be masked")
    return log
