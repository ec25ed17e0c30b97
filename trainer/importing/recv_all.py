"""The recorder's layout: `recv_all_YYYYMMDD_HHMMSS/` with every stream of a sitting as it came.

View1..4/{left,right}/zed_<serial>_left_<unix seconds>.jpg, View5/*.jpg
robot_state_*.csv    recv, origin and send timestamp, force_placeholder, joint_1..6, pose_x y z a b r
sensor_data_*.npz    timestamps, send_timestamps, forces [N], alines [N, 1025]
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trainer.importing.report import SessionReport
from trainer.importing.rig_recording import RigRecording, list_views, read_sensor
from trainer.importing.robot_log import read_robot_log
from trainer.importing.sensor_log import read_samples
from trainer.importing.sessions import by_number


def is_session(directory: Path) -> bool:
    """By what is in it, or by its name where that is missing."""
    return directory.name.startswith("recv_all_") or any(directory.glob("robot_state_*.csv"))


def read_session(directory: Path, views: Sequence[str], report: SessionReport) -> RigRecording:
    """Read everything but the pictures' contents.

    Raises:
        LeftOut: no usable robot states, or a view is missing.
    """
    robot = read_robot_log(sorted(directory.glob("robot_state_*.csv"), key=by_number), report)
    pictures = list_views({view: _directory(directory, view) for view in views}, report)
    paths = sorted(directory.glob("sensor_data_*.npz"), key=by_number)
    return RigRecording(pictures, robot, read_sensor(paths, lambda: read_samples(paths, report), report))


def _directory(session: Path, view: str) -> Path:
    """The left picture of a stereo camera, as the rig sends it while a policy drives."""
    directory = session / view.replace("view", "View")
    return directory / "left" if (directory / "left").is_dir() else directory
