"""How to run episodes: what the operator asks for, and what follows from it for one episode."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

from clients.chunk_buffer import ChunkPolicy
from clients.limits_file import read_limits
from clients.robots.base import RobotInfo
from clients.safety_limits import SafetyLimits
from clients.uncertainty import RESPONSE, OnUncertain
from policy.errors import UsageError
from policy.spec import PolicySpec


@dataclass(frozen=True)
class ReceiverSettings:
    """What the operator asks for."""

    inference_rate_hz: float = 5.0
    adaptive: bool = False  # ask as often as the server can answer instead; see `clients.adaptive_rate`
    control_rate_hz: float | None = None  # None: the robot's own
    chunk_policy: ChunkPolicy | None = None  # None: rtc where the policy was trained for it, else receding
    ddim_steps: int | None = None
    instruction: str | None = None  # None: the robot's own
    limits: SafetyLimits | None = None  # None: the policy's own bounds, see `safety_limits`
    seed: int | None = None
    samples: int = 1  # chunks drawn per request
    on_uncertain: OnUncertain | None = None
    uncertainty_threshold: float = math.inf


@dataclass(frozen=True)
class EpisodeSettings:
    """How to run one episode."""

    instruction: str
    chunk_policy: ChunkPolicy
    limits: SafetyLimits
    session: str
    control_rate_hz: float
    execute: int = (
        16  # actions of a chunk that `sync` executes; what the others execute until the next is due
    )
    ddim_steps: int | None = None
    seed: int | None = None  # of the sampler's noise; each request derives its own from it
    deadline_ms: float | None = None
    samples: int = 1
    on_uncertain: OnUncertain | None = None
    uncertainty_threshold: float = math.inf


def chunk_policy_for(spec: PolicySpec, asked: ChunkPolicy | None) -> ChunkPolicy:
    """`rtc` where the policy was trained to continue a prefix, else `receding`, unless asked otherwise.

    Raises:
        UsageError: `rtc` is asked for, and the policy was not trained for it.
    """
    if asked == "rtc" and not spec.max_prefix:
        raise UsageError("--chunk-policy rtc: this policy was not trained to continue a prefix; use receding")
    return asked or ("rtc" if spec.max_prefix else "receding")


def safety_limits(
    spec: PolicySpec,
    inference_rate_hz: float,
    *,
    max_change: float | None = None,
    file: Path | None = None,
) -> SafetyLimits:
    """The policy's own bounds, tightened by `max_change` (a fraction of each range) and by a limits file.

    Raises:
        UsageError: the file does not fit the policy.
    """
    # A plan may rest on an observation as old as three inference periods, and at least a second.
    stale_after = max(1.0, 3.0 / inference_rate_hz)
    limits = SafetyLimits.of(spec.action, stale_plan_s=stale_after, max_change=max_change)
    return limits if file is None else read_limits(file, spec, limits)


def episode_settings(
    info: RobotInfo, spec: PolicySpec, asked: ReceiverSettings, seed: int, session: str
) -> EpisodeSettings:
    """What one episode goes by, from what was asked for and what robot and policy say."""
    rate = asked.control_rate_hz or info.control_rate_hz
    limits = asked.limits or safety_limits(spec, asked.inference_rate_hz)
    if asked.on_uncertain is not None:
        responses = {**limits.responses, "uncertain": RESPONSE[asked.on_uncertain]}
        limits = replace(limits, responses=responses)
    return EpisodeSettings(
        instruction=asked.instruction or info.instruction,
        chunk_policy=chunk_policy_for(spec, asked.chunk_policy),
        limits=limits,
        session=session,
        control_rate_hz=rate,
        execute=max(1, math.ceil(rate / asked.inference_rate_hz)),
        ddim_steps=asked.ddim_steps,
        # Far apart for neighbouring episodes, so that their requests share no noise.
        seed=None if asked.seed is None else seed * 1_000_003 % 2**62,
        samples=asked.samples,
        on_uncertain=asked.on_uncertain,
        uncertainty_threshold=asked.uncertainty_threshold,
    )
