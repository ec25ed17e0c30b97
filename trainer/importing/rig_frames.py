"""From a session of the needle rig to episodes: stretches without a gap, actions as differences of poses."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from clients.lerobot_v3 import EpisodeArrays, SensorStream
from clients.lerobot_v3.layout import SESSION
from clients.lerobot_v3.streams import STORED_DTYPE
from clients.robots.needle_rig_contract import (
    ACTION_LIMIT,
    POSE_NAMES,
    SENSOR,
    SENSOR_CHANNELS,
    SENSOR_RATE_HZ,
    SENSOR_WINDOW,
    TASK,
)
from trainer.importing.clocks import TOGETHER_S, offset_by_span
from trainer.importing.matching import runs, usable_runs, within
from trainer.importing.report import SessionReport
from trainer.importing.rig_instants import JITTER, RigSettings, pictured_instants
from trainer.importing.rig_recording import RigRecording
from trainer.importing.robot_log import RobotLog
from trainer.importing.sensor_log import SensorLog

_SENSOR_BEFORE_S = 1.0  # kept of the stream before an episode's first frame


def episodes_of_session(
    recording: RigRecording, settings: RigSettings, report: SessionReport
) -> Iterator[EpisodeArrays]:
    """Every stretch of the session without a gap.

    A frame is an instant of which every view has a picture and the robot a state. Its actions are the differences of
    poses at evenly spaced instants up to the next frame, angles the short way round, so that they add up to the
    motion that was recorded.
    """
    at, images = pictured_instants(recording, settings, report)
    sensor = _on_recorders_clock(recording, settings, report)
    follows = np.diff(at) <= (1 + JITTER) / settings.fps
    for stretch in runs(follows) if len(at) else []:
        instants = _action_instants(at[stretch], settings)
        known = np.all(within(recording.robot.times, instants, settings.tolerance), axis=1)
        report.drop("frame: no robot states up to the next one", (~known).sum())
        for part in usable_runs(known):
            rows = range(stretch.start + part.start, stretch.start + part.stop)
            if len(rows) < settings.min_frames:
                report.drop("frame: stretch too short", len(rows))
                continue
            pictures = {view: [images[row][view] for row in rows] for view in recording.pictures}
            yield _episode(recording.robot, sensor, instants[part], pictures, settings, report)


def _action_instants(at: np.ndarray, settings: RigSettings) -> np.ndarray:
    """float64 [N, K + 1]: when each frame's actions begin and the last one ends."""
    ends = np.append(at[1:], at[-1] + 1 / settings.fps)
    share = np.arange(settings.actions_per_frame + 1) / settings.actions_per_frame
    return at[:, None] + (ends - at)[:, None] * share


def _on_recorders_clock(
    recording: RigRecording, settings: RigSettings, report: SessionReport
) -> SensorLog | None:
    sensor = recording.sensor
    if sensor is None:
        return None
    offset = settings.sensor_offset
    if offset is None:
        offset = offset_by_span(sensor.span, recording.robot.span)
        if offset is None:
            report.notes.append(
                "sensor data left out: they neither begin nor end with the robot's; give --sensor-offset"
            )
            return None
        if offset:
            report.notes.append(
                f"the sensor's clock seems {-offset:+.2f} s from the recorder's, told by begin and end (to about "
                f"{TOGETHER_S} s); corrected. --sensor-offset says it better"
            )
    return SensorLog(sensor.times + offset, sensor.values, sensor.begins + offset)


def _episode(
    robot: RobotLog,
    sensor: SensorLog | None,
    instants: np.ndarray,
    pictures: dict[str, list[bytes]],
    settings: RigSettings,
    report: SessionReport,
) -> EpisodeArrays:
    at = instants[:, 0]
    poses = robot.at(instants)
    action = np.diff(poses[..., : len(POSE_NAMES)], axis=1)  # [N, K, 6]
    report.found["actions"] += action.shape[0] * action.shape[1]
    report.found["actions beyond the rig's limits"] += int(
        (np.abs(action) > 1.01 * ACTION_LIMIT).any(-1).sum()
    )
    stream = _stream(sensor, at, settings)
    counts = [
        np.searchsorted(stream.times, stream.frame_times - ago, side="right")
        for ago in (0.0, SENSOR_WINDOW / SENSOR_RATE_HZ)
    ]
    report.found["frames whose sensor window is empty"] += int((counts[0] == counts[1]).sum())
    report.episodes += 1
    report.frames += len(at)
    return EpisodeArrays(
        task=settings.instruction,
        images=pictures,
        state=robot.wrap_like(poses[:, 0], at).astype(np.float32),
        action=action.reshape(len(at), -1).astype(np.float32),
        extra={"task": TASK, SESSION: report.session, "start_time": float(at[0])},
        sensors={SENSOR: stream},
    )


def _stream(sensor: SensorLog | None, at: np.ndarray, settings: RigSettings) -> SensorStream:
    """The samples around an episode, in seconds since its first frame; none where the session has no sensor."""
    if sensor is None:
        return SensorStream(np.zeros(0), np.zeros((0, SENSOR_CHANNELS), STORED_DTYPE), at - at[0])
    rows = slice(
        int(np.searchsorted(sensor.times, at[0] - _SENSOR_BEFORE_S)),
        int(np.searchsorted(sensor.times, at[-1] + 1 / settings.fps)),
    )
    return SensorStream(sensor.times[rows] - at[0], sensor.values[rows], at - at[0])
