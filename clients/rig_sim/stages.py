"""What counts: the stages aligned, docked and depth, success, aborts and errors, defined here and nowhere else."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from clients.rig_sim.contact import Docking
from clients.rig_sim.parameters import Limits, Task


@dataclass(frozen=True)
class Situation:
    """Needle and eye at one instant, as only the simulator knows it."""

    time: float  # s since the start of the episode
    depth: float  # mm of the tip below the entry, along the trocar's axis
    lateral: float  # mm of the tip from the axis
    angle: float  # degrees between needle and axis
    inside: bool  # the tip entered through the funnel
    retina_distance: float  # mm from the tip to the retina along the needle; negative: in it
    axial_force: float  # N
    lateral_force: float  # N


@dataclass(frozen=True)
class EpisodeMetrics:
    """What an episode came to; mm, degrees, N and s."""

    aligned: bool
    docked: bool
    success: bool  # depth reached and held, nothing aborted
    aborted: str | None  # retina touched, axial force, lateral force, joint limit
    seconds: float
    aligned_at: float | None
    docked_at: float | None
    success_at: float | None
    docking_lateral: float | None  # tip from the axis as it entered
    docking_angle: float | None
    depth_error: float | None  # now: distance to the retina minus the target; None before docking
    path_error_mean: float | None  # tip from the axis, over the depth below the cap that it newly reached
    path_error_max: float | None  # likewise; None for a tip that never went below the cap through the funnel
    peak_axial_force: float
    peak_lateral_force: float

    def to_json(self) -> dict[str, Any]:
        """Plain values, rounded to what is meant."""
        return {k: round(v, 4) if isinstance(v, float) else v for k, v in asdict(self).items()}


class StageTracker:
    """Watches one episode tick by tick."""

    def __init__(self, task: Task, limits: Limits) -> None:
        self._task, self._limits = task, limits
        self._now: Situation | None = None
        self._docking: Docking | None = None
        self._aligned_at: float | None = None
        self._docked_at: float | None = None
        self._at_depth_since: float | None = None
        self._success_at: float | None = None
        self._aborted: str | None = None
        self._path_area, self._path_max, self._deepest = 0.0, 0.0, 0.0  # mm^2, mm, mm
        self._peak_axial = self._peak_lateral = 0.0

    def watch(self, now: Situation, docking: Docking | None) -> str | None:
        """Take a tick in; why the rig has to stop by itself, if it has to."""
        task = self._task
        self._now = now
        self._peak_axial = max(self._peak_axial, abs(now.axial_force))
        self._peak_lateral = max(self._peak_lateral, now.lateral_force)
        if self._aligned_at is None and self._is_aligned(now):
            self._aligned_at = now.time
        if now.inside and now.depth > self._deepest:
            # By depth and not by time: standing still, at depth or anywhere, weighs nothing.
            self._path_area += now.lateral * (now.depth - self._deepest)
            self._path_max = max(self._path_max, now.lateral)
            self._deepest = now.depth
        if self._docked_at is None and now.inside and now.depth >= task.docked_depth:
            self._docked_at, self._docking = now.time, docking
        if self._success_at is None and self._aborted is None:
            self._aborted = self._why_abort(now)
            self._follow_depth(now)
        return self._aborted

    def abort(self, why: str) -> None:
        """End the episode for a reason that no situation shows; what is over stays as it is."""
        if self._success_at is None and self._aborted is None:
            self._aborted = why

    @property
    def over(self) -> bool:
        """Success, an abort, or the time limit."""
        late = self._now is not None and self._now.time >= self._task.time_limit
        return self._success_at is not None or self._aborted is not None or late

    def metrics(self) -> EpisodeMetrics:
        now = self._now
        docked = self._docked_at is not None
        return EpisodeMetrics(
            # Whoever docks was aligned, however briefly.
            aligned=self._aligned_at is not None or docked,
            docked=docked,
            success=self._success_at is not None,
            aborted=self._aborted,
            seconds=now.time if now else 0.0,
            aligned_at=self._aligned_at,
            docked_at=self._docked_at,
            success_at=self._success_at,
            docking_lateral=self._docking.lateral if self._docking else None,
            docking_angle=self._docking.angle if self._docking else None,
            depth_error=now.retina_distance - self._task.target if docked and now else None,
            path_error_mean=self._path_area / self._deepest if self._deepest else None,
            path_error_max=self._path_max if self._deepest else None,
            peak_axial_force=self._peak_axial,
            peak_lateral_force=self._peak_lateral,
        )

    def _is_aligned(self, now: Situation) -> bool:
        task = self._task
        above = -task.aligned_height <= now.depth < 0
        return above and now.lateral <= task.aligned_lateral and now.angle <= task.aligned_angle

    def _why_abort(self, now: Situation) -> str | None:
        if now.inside and now.retina_distance <= 0:
            return "retina touched"
        if abs(now.axial_force) > self._limits.abort_force:
            return "axial force"
        if now.lateral_force > self._limits.abort_lateral:
            return "lateral force"
        return None

    def _follow_depth(self, now: Situation) -> None:
        task = self._task
        there = self._docked_at is not None and abs(now.retina_distance - task.target) <= task.tolerance
        if not there or self._aborted is not None:
            self._at_depth_since = None
        elif self._at_depth_since is None:
            self._at_depth_since = now.time
        elif now.time - self._at_depth_since >= task.hold - 1e-9:
            self._success_at = now.time
