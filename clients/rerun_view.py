"""`--view` and `--record-rrd`: frames, chunks over executed actions, latencies and safety, for the Rerun viewer.

Nothing is sent from the control or the inference thread: they leave the newest observation here, and the thread that
watches the episode does the rest, about ten times a second. Rerun queues what a slow viewer cannot take yet.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clients.episode import Episode
from clients.episode_trace import EpisodeTrace, RequestRecord, StepRecord
from clients.receiver import EpisodeOutcome
from clients.rerun_viewer import INSTALL
from clients.robots.base import RobotObservation
from clients.tapped_robot import TappedRobot
from policy.errors import UsageError
from policy.spec import PolicySpec
from service.wire.images import encode_image

TIMELINE = "time"
# Series per action dimension that chunks take in turns, so that those that overlap are told apart.
CHUNK_COLOURS = ((59, 125, 216), (224, 138, 44), (74, 165, 100), (155, 95, 192))
EXECUTED_COLOUR, HELD_COLOUR = (26, 26, 26), (192, 57, 43)
# Of what a person looks at; recordings for training are made by --save-data.
JPEG_QUALITY = 80


class RerunView:
    """A `Watcher` for the receiver and a `Tap` of the robot.

    Args:
        spec: the policy's contract.
        viewer: address of a viewer to stream to; None streams to none.
        file: an .rrd file to write as well; None writes none.

    Raises:
        UsageError: rerun is not installed, or the file cannot be written.
    """

    def __init__(self, spec: PolicySpec, *, viewer: str | None, file: Path | None) -> None:
        try:
            import rerun
        except ImportError:
            raise UsageError(
                f"--view and --record-rrd need rerun, which is not installed; {INSTALL}"
            ) from None
        self._rr = rerun
        self._spec = spec
        self._stream = rerun.RecordingStream("tinyvla")
        self._stream.set_sinks(*_sinks(rerun, viewer, file), default_blueprint=_blueprint(spec))
        self._started = time.monotonic()
        self._seen: RobotObservation | None = None
        self._shown_at = float("-inf")  # captured_at of the newest observation that was sent
        self._step_at = float("-inf")  # of the newest control period that was sent
        self._request = -1  # sequence number of the newest request that was sent
        self._style()

    def began(self, robot: TappedRobot, seed: int) -> None:
        """An episode begins."""
        self._seen, self._request = None, -1
        self.log(f"{robot.info.task}, seed {seed}")

    def commanded(self, command: np.ndarray, held: bool) -> None:
        """Nothing: the episode's trace holds it."""

    def observed(self, observation: RobotObservation) -> None:
        """Keep it until the next look."""
        self._seen = observation

    def log(self, line: str) -> None:
        """A line of the receiver's."""
        self._at(time.monotonic())
        self._stream.log("log", self._rr.TextLog(line))

    def watch(self, episode: Episode, elapsed_s: float) -> None:
        """Send what is new since the last look."""
        seen = self._seen
        if seen is not None and seen.captured_at > self._shown_at:
            self._shown_at = seen.captured_at
            self._frames(seen)
        self._catch_up(episode.trace, episode.settings.control_rate_hz)
        self._at(time.monotonic())
        self._stream.log("buffer/planned", self._rr.Scalars(episode.remaining))
        active = [cause for cause, seen in dict(episode.safety.interventions).items() if seen.active]
        self._stream.log("safety/active", self._rr.Scalars(len(active)))

    def ended(self, outcome: EpisodeOutcome) -> None:
        """The episode is over: send what the last look missed."""
        self._catch_up(outcome.trace, outcome.control_rate_hz)
        self.log(f"{outcome.task}, seed {outcome.seed}: {'success' if outcome.success else 'no success'}")

    def close(self) -> None:
        """Bring everything to the viewer and the disk.

        Raises:
            ConnectionError: the viewer is gone, or a full disk took no more; one line.
        """
        try:
            self._stream.flush(timeout_sec=5.0)
        except RuntimeError as error:
            raise ConnectionError(f"not all of it reached viewer or file: {error}") from None
        finally:
            self._stream.disconnect()

    def _catch_up(self, trace: EpisodeTrace, rate_hz: float) -> None:
        # Copies, because the episode's threads append meanwhile.
        steps = [step for step in list(trace.steps) if step.at > self._step_at]
        if steps:
            self._step_at = steps[-1].at
            self._steps(steps)
        for request in list(trace.requests):
            if request.seq > self._request:
                self._request = request.seq
                self._exchange(request, rate_hz)

    def _frames(self, seen: RobotObservation) -> None:
        self._at(seen.captured_at)
        for camera in self._spec.cameras:
            if camera.name not in seen.images:  # such an observation is not sent, and the receiver says so
                continue
            data = encode_image(seen.images[camera.name], "jpeg", JPEG_QUALITY)
            image = self._rr.EncodedImage(contents=data, media_type="image/jpeg")
            self._stream.log(f"camera/{camera.name}", image)
        for name, value in zip(self._spec.state.names, seen.state, strict=True):
            self._stream.log(f"state/{name}", self._rr.Scalars(float(value)))

    def _steps(self, steps: Sequence[StepRecord]) -> None:
        times = np.asarray([step.at for step in steps])
        sent = np.stack([step.sent for step in steps])
        held = np.asarray([step.command is None for step in steps], float)
        for dim, name in enumerate(self._spec.action.names):
            self._columns(f"action/{name}/executed", times, sent[:, dim])
        self._columns("safety/held", times, held)

    def _exchange(self, request: RequestRecord, rate_hz: float) -> None:
        self._columns(
            "latency/round_trip_ms", [request.ended_at], [(request.ended_at - request.sent_at) * 1e3]
        )
        self._columns(
            "latency/capture_ms", [request.sent_at], [(request.sent_at - request.captured_at) * 1e3]
        )
        if request.actions is None:
            return
        times = request.captured_at + np.arange(len(request.actions) + 1) / rate_hz
        turn = request.seq % len(CHUNK_COLOURS)
        for dim, name in enumerate(self._spec.action.names):
            # The gap at the end keeps a line from leading to the chunk that has the next turn.
            values = np.append(request.actions[:, dim], np.nan)
            self._columns(f"action/{name}/chunk_{turn}", times, values)

    def _columns(
        self, path: str, times: Sequence[float] | np.ndarray, values: Sequence[float] | np.ndarray
    ) -> None:
        elapsed = np.asarray(times, np.float64) - self._started
        index = self._rr.TimeColumn(TIMELINE, duration=elapsed)
        self._stream.send_columns(path, [index], self._rr.Scalars.columns(scalars=np.asarray(values)))

    def _at(self, monotonic: float) -> None:
        self._stream.set_time(TIMELINE, duration=monotonic - self._started)

    def _style(self) -> None:
        lines = self._rr.SeriesLines
        for name in self._spec.action.names:
            for turn, colour in enumerate(CHUNK_COLOURS):
                style = lines(colors=colour, widths=1.0, names=f"chunk {turn}")
                self._stream.log(f"action/{name}/chunk_{turn}", style, static=True)
            style = lines(colors=EXECUTED_COLOUR, widths=2.0, names="executed")
            self._stream.log(f"action/{name}/executed", style, static=True)
        self._stream.log("safety/held", lines(colors=HELD_COLOUR, widths=1.5, names="held"), static=True)


def _sinks(rerun: Any, viewer: str | None, file: Path | None) -> list[Any]:
    sinks: list[Any] = []
    if viewer is not None:
        sinks.append(rerun.GrpcSink(viewer))
    if file is not None:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
        except OSError as error:
            raise UsageError(f"--record-rrd {file}: {error.strerror or error}") from None
        sinks.append(rerun.FileSink(file))
    return sinks


def _blueprint(spec: PolicySpec) -> Any:
    """Cameras and log on the left, a plot per action dimension in the middle, the rest on the right."""
    import rerun.blueprint as layout

    cameras = [
        layout.Spatial2DView(origin=f"camera/{camera.name}", name=camera.name) for camera in spec.cameras
    ]
    actions = [
        layout.TimeSeriesView(origin=f"action/{name}", name=f"{name} [{unit}]")
        for name, unit in zip(spec.action.names, spec.action.units, strict=True)
    ]
    return layout.Blueprint(
        layout.Horizontal(
            layout.Vertical(*cameras, layout.TextLogView(origin="log", name="receiver")),
            layout.Vertical(*actions),
            layout.Vertical(
                layout.TimeSeriesView(origin="latency", name="latency [ms]"),
                layout.TimeSeriesView(origin="buffer", name="actions planned ahead"),
                layout.TimeSeriesView(origin="safety", name="safety"),
                layout.TimeSeriesView(origin="state", name="state"),
            ),
            column_shares=[2, 3, 2],
        ),
        collapse_panels=True,
    )
