"""Who looks on while a robot moves: the terminal, Rerun and the recorder, to the session as one."""

from __future__ import annotations

import contextlib
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console

from clients.episode import Episode
from clients.live_view import LiveView
from clients.receiver import EpisodeOutcome
from clients.receiver_settings import RunSettings
from clients.robots.base import Robot
from clients.tapped_robot import Tap, TappedRobot
from policy.errors import UsageError
from policy.spec import PolicySpec

if TYPE_CHECKING:
    from clients.recording import Recorder
    from clients.rerun_view import RerunView


class Onlookers:
    """A `Watcher` for the receiver, and the place where its log lines go.

    Args:
        settings: say who looks on.
        spec: the policy's contract.
        console: where to print.

    Raises:
        UsageError: what one of them needs is not there.
    """

    def __init__(self, settings: RunSettings, spec: PolicySpec, console: Console) -> None:
        self._live = LiveView(console, plain=settings.plain)
        self._stack = contextlib.ExitStack()
        self._rerun = _rerun(settings, spec)
        self._recorder = self._record(settings, spec) if settings.save_data else None

    def __enter__(self) -> Onlookers:
        self._stack.enter_context(self._live)
        if self._rerun is not None:
            self._stack.callback(self._close_rerun, self._rerun)
        if self._recorder is not None:  # last, as leaving it takes longest and has something to say
            self._stack.enter_context(self._recorder)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    @property
    def recorded_before(self) -> int:
        """Episodes that are there already of a recording which is gone on with."""
        return self._recorder.begun_before if self._recorder is not None else 0

    def tap(self, robot: Robot) -> TappedRobot:
        """The robot, seen by those who want to see it."""
        taps: list[Tap] = [tap for tap in (self._rerun, self._recorder) if tap is not None]
        return TappedRobot(robot, taps)

    def log(self, line: str) -> None:
        """A line of the receiver's, from any thread."""
        self._live.log(line)
        if self._rerun is not None:
            self._rerun.log(line)

    def begin(self, title: str) -> None:
        """An episode starts."""
        self._live.begin(title)

    def watch(self, episode: Episode, elapsed_s: float) -> None:
        """About ten times a second."""
        self._live.watch(episode, elapsed_s, self._recorder.counts.shown() if self._recorder else None)
        if self._rerun is not None:
            self._rerun.watch(episode, elapsed_s)

    def end(self, outcome: EpisodeOutcome) -> None:
        """The episode is over."""
        self._live.end(outcome)
        if self._rerun is not None:
            self._rerun.ended(outcome)
        if self._recorder is not None:
            self._recorder.ended(outcome)

    def recorded(self) -> dict[str, Any] | None:
        """What the report says of the recording; None without one."""
        return None if self._recorder is None else self._recorder.counts.report()

    def _close_rerun(self, rerun: RerunView) -> None:
        try:
            rerun.close()
        except ConnectionError as error:
            self._live.log(f"view: {error}")

    def _record(self, settings: RunSettings, spec: PolicySpec) -> Recorder:
        assert settings.save_data is not None
        try:
            from clients.recording import Recorder
        except ImportError as error:
            raise UsageError(
                f"--save-data: {error}; pip install -c constraints.txt -e '.[sim]' brings what it needs"
            ) from None
        try:
            return Recorder(
                settings.save_data,
                spec,
                self.log,
                instruction=settings.instruction,
                control_rate_hz=settings.control_rate,
            )
        except UsageError as error:
            raise UsageError(f"--save-data: {error}") from None


def _rerun(settings: RunSettings, spec: PolicySpec) -> RerunView | None:
    if not (settings.view or settings.view_at or settings.record_rrd):
        return None
    from clients.rerun_view import RerunView
    from clients.rerun_viewer import check_viewer, open_viewer

    viewer = None
    if settings.view_at is not None:
        viewer = check_viewer(settings.view_at)
    elif settings.view:
        viewer = open_viewer()
    return RerunView(spec, viewer=viewer, file=settings.record_rrd)
