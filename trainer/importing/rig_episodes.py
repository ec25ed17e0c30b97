"""The collector's layout: `episode_*/`, one demonstration each.

metadata.json
images/ViewN/<unix seconds>.jpg
robot_states.csv    as the recorder's, with `force` for `force_placeholder`
sensor_data.npz     timestamps [N] of the newest samples, data [N, 650, 1026] overlapping windows
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trainer.importing.report import LeftOut, SessionReport
from trainer.importing.rig_recording import RigRecording, list_views, read_sensor
from trainer.importing.robot_log import read_robot_log
from trainer.importing.sensor_log import read_windows


def is_session(directory: Path) -> bool:
    """By what is in it, or by its name where that is missing."""
    return directory.name.startswith("episode_") or (directory / "robot_states.csv").is_file()


def read_session(directory: Path, views: Sequence[str], report: SessionReport) -> RigRecording:
    """Read everything but the pictures' contents. `metadata.json` holds nothing that the files do not say better.

    Raises:
        LeftOut: no usable robot states, or a view is missing.
    """
    states = directory / "robot_states.csv"
    if not states.is_file():
        raise LeftOut("robot_states.csv is missing")
    robot = read_robot_log([states], report)
    folders = {view: directory / "images" / view.replace("view", "View") for view in views}
    pictures = list_views(folders, report)
    sensor = directory / "sensor_data.npz"
    paths = [sensor] if sensor.is_file() else []
    return RigRecording(pictures, robot, read_sensor(paths, lambda: read_windows(sensor, report), report))
