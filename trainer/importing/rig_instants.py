"""Which instants of a session of the needle rig become frames: pictures of every view, a robot state, one rate."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clients.robots.needle_rig_contract import CONTROL_RATE_HZ
from trainer.importing.clocks import offset_by_span
from trainer.importing.matching import match_streams, within
from trainer.importing.pictures import read_picture
from trainer.importing.report import LeftOut, SessionReport
from trainer.importing.rig_recording import RigRecording
from trainer.importing.robot_log import RobotLog

# Share of a frame's period that a picture may come early or late.
JITTER = 0.25


@dataclass(frozen=True)
class RigSettings:
    """What decides which frames are made."""

    fps: float
    tolerance: float  # s, picture to robot state
    view_tolerance: float  # s, view to view
    size: tuple[int, int]  # height, width
    quality: int
    instruction: str
    camera_offset: float | None  # s; None: the clocks must agree
    sensor_offset: float | None  # s; None: told by begin and end
    min_frames: int

    @property
    def actions_per_frame(self) -> int:
        return round(CONTROL_RATE_HZ / self.fps)


def pictured_instants(
    recording: RigRecording, settings: RigSettings, report: SessionReport
) -> tuple[np.ndarray, list[dict[str, bytes]]]:
    """Times float64 [N] on the recorder's clock, ascending, and the encoded pictures of each instant by view.

    Raises:
        LeftOut: the pictures are on another clock than the robot's states.
    """
    at, paths = _matched(recording, settings, report)
    at, paths = _with_states(recording.robot, at, paths, settings, report)
    at, images = _read(at, paths, settings, report)
    return _at_rate(at, images, settings, report)


def _matched(
    recording: RigRecording, settings: RigSettings, report: SessionReport
) -> tuple[np.ndarray, list[dict[str, Path]]]:
    """Times float64 [N] and the pictures of each instant; its time is the earliest picture's, as in the driver."""
    offset = _camera_offset(recording, settings)
    views = list(recording.pictures)
    matched = match_streams(
        [pictures.times for pictures in recording.pictures.values()], settings.view_tolerance
    )
    for view, pictures in recording.pictures.items():
        report.drop(f"picture: {view} without the other views", len(pictures) - len(matched))
    times = np.array([recording.pictures[view].times[matched[:, i]] for i, view in enumerate(views)])
    paths = [
        {view: recording.pictures[view].paths[row] for view, row in zip(views, rows, strict=True)}
        for rows in matched.tolist()
    ]
    return times.min(0) + offset, paths


def _camera_offset(recording: RigRecording, settings: RigSettings) -> float:
    if settings.camera_offset is not None:
        return settings.camera_offset
    begins = min(pictures.times[0] for pictures in recording.pictures.values())
    ends = max(pictures.times[-1] for pictures in recording.pictures.values())
    robot = recording.robot.span
    if offset_by_span((begins, ends), robot) != 0.0:
        raise LeftOut(
            f"the pictures begin {begins - robot[0]:+.3f} s and end {ends - robot[1]:+.3f} s from the robot's states: "
            "another clock? --camera-offset says by how much, 0 believes them"
        )
    return 0.0


def _with_states(
    robot: RobotLog,
    at: np.ndarray,
    paths: list[dict[str, Path]],
    settings: RigSettings,
    report: SessionReport,
) -> tuple[np.ndarray, list[dict[str, Path]]]:
    known = within(robot.times, at, settings.tolerance)
    report.drop(f"frame: no robot state within {1000 * settings.tolerance:g} ms", (~known).sum())
    return at[known], [path for path, keep in zip(paths, known, strict=True) if keep]


def _read(
    at: np.ndarray, paths: list[dict[str, Path]], settings: RigSettings, report: SessionReport
) -> tuple[np.ndarray, list[dict[str, bytes]]]:
    """The pictures' contents; an instant is dropped where one of them is not whole."""

    def read(of: dict[str, Path]) -> dict[str, bytes | None]:
        return {view: read_picture(path, settings.size, settings.quality) for view, path in of.items()}

    kept, images = [], []
    with ThreadPoolExecutor() as pool:
        for time, found in zip(at, pool.map(read, paths), strict=True):
            whole = {view: picture for view, picture in found.items() if picture is not None}
            report.drop("picture: not a whole JPEG", len(found) - len(whole))
            if len(whole) == len(found):
                kept.append(time)
                images.append(whole)
    report.drop("frame: a view's picture is not whole", len(at) - len(kept))
    return np.array(kept), images


def _at_rate(
    at: np.ndarray, images: list[dict[str, bytes]], settings: RigSettings, report: SessionReport
) -> tuple[np.ndarray, list[dict[str, bytes]]]:
    """Without frames that come sooner than the rate."""
    kept: list[int] = []
    for row, time in enumerate(at):
        if not kept or time - at[kept[-1]] >= (1 - JITTER) / settings.fps:
            kept.append(row)
    report.drop("frame: sooner than the frame rate", len(at) - len(kept))
    if len(kept) > 1 and np.median(spacing := np.diff(at[kept])) > (1 + JITTER) / settings.fps:
        report.notes.append(f"pictures come every {np.median(spacing):.3f} s: give --fps")
    return at[kept], [images[row] for row in kept]
