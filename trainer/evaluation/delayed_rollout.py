"""One episode of the delay sweep: the receiver's own control core on MetaWorld, in simulated time."""

from __future__ import annotations

from dataclasses import dataclass

from clients.chunk_buffer import ChunkPolicy
from clients.client import PolicyClient
from clients.episode import Episode
from clients.episode_settings import ReceiverSettings, episode_settings
from clients.robots.base import Robot
from clients.simulated_time import SimulatedClock, run_simulated
from clients.smoothness import episode_smoothness
from policy.spec import PolicySpec


@dataclass(frozen=True)
class DelayedEpisode:
    """What came of an episode; the simulator's clock went on while inference was under way."""

    task: str
    chunk_policy: ChunkPolicy
    delay_ms: float  # from an observation to its chunk
    episode: int
    seed: int
    success: bool
    periods: int  # control periods, at most 500
    executed: int  # of them followed a plan
    held: int  # of them had none, or one too old
    seams: int
    seam_jump: float | None  # see `clients.smoothness`
    interior_steps: int
    interior_step: float | None
    jerk: float | None


def run_delayed_episode(
    robot: Robot,
    clock: SimulatedClock,
    client: PolicyClient,
    spec: PolicySpec,
    settings: ReceiverSettings,
    *,
    delay_ms: float,
    episode: int,
    seed: int,
) -> DelayedEpisode:
    """Reset from `seed` and run to the first success or the end of the episode; the same again gives the same."""
    # Ages of plans are differences of times: from another start they round to the other side of a limit.
    clock.now = 0.0
    robot.reset(seed)
    run = Episode(robot, spec, episode_settings(robot.info, spec, settings, seed, "sweep"), started=clock.now)
    periods = run_simulated(
        robot,
        client,
        run,
        clock,
        delay_s=lambda request: delay_ms / 1e3,
        inference_rate_hz=settings.inference_rate_hz,
    )
    trace = run.trace
    smooth = episode_smoothness(trace, spec.action, run.settings.control_rate_hz, robot.info.kept_on_hold)
    return DelayedEpisode(
        task=robot.info.task,
        chunk_policy=run.settings.chunk_policy,
        delay_ms=delay_ms,
        episode=episode,
        seed=seed,
        success=robot.success,
        periods=periods,
        executed=trace.executed,
        held=trace.held + trace.waited,
        seams=smooth.seams,
        seam_jump=smooth.seam_jump,
        interior_steps=smooth.interior_steps,
        interior_step=smooth.interior_step,
        jerk=smooth.jerk,
    )
