"""Needle rig episodes made by hand: for tests of what is done with them."""

from __future__ import annotations

from clients.rig_sim.stages import EpisodeMetrics
from trainer.evaluation.rig_rollout import RigEpisode


def episode(
    number: int = 0, success: bool = True, *, actor: str = "policy", aborted: str | None = None, **values
) -> RigEpisode:
    told = EpisodeMetrics(
        aligned=True, docked=success, success=success, aborted=aborted, seconds=12.0, aligned_at=1.0, docked_at=5.0,
        success_at=11.0 if success else None, docking_lateral=0.1 if success else None,
        docking_angle=0.2 if success else None, depth_error=-0.04 if success else None,
        path_error_mean=0.05 if success else None, path_error_max=0.1 if success else None, peak_axial_force=0.1,
        peak_lateral_force=0.01,
    ).to_json()  # fmt: skip
    own = {"actor": actor, "episode": number, "seed": 1000 + number, "chunks": 60, "inference_ms": 20.0}
    return RigEpisode(**{**told, **own, **values})
