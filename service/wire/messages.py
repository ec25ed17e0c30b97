"""The one request and the one reply that every encoding carries."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from policy.observation import Observation, SampleOptions


@dataclass(frozen=True)
class ActRequest:
    """One observation, asking for one chunk of actions."""

    observation: Observation
    options: SampleOptions = field(default_factory=SampleOptions)
    policy: str | None = None  # `name` or `name@hash`; None is the active policy
    session: str | None = None  # a newer request of a session replaces its waiting older one
    seq: int | None = None  # echoed; orders the requests of a session
    timestamp_ns: int | None = None  # the client's own clock; echoed, never compared
    deadline_ms: float | None = None  # counted from arrival
    expects: str | None = None  # hash of the policy the client was made for; 12 characters or more
    vl_max_age_ms: float | None = None  # how old the session's visual features may be; None: not at all


@dataclass(frozen=True)
class Timing:
    """Where the time of one request went, in milliseconds."""

    decode: float
    queue: float
    encode: float
    sample: float
    total: float  # arrival at the door to reply ready
    batch: int  # requests that shared the run


@dataclass(frozen=True)
class ActReply:
    """One chunk of actions and how it came about."""

    actions: np.ndarray  # float32 [horizon, A], physical units
    rate_hz: float
    horizon: int
    policy: str  # name@first-12-of-hash
    ddim_steps: int
    sampler: str
    seed: int
    timing_ms: Timing
    uncertainty: np.ndarray | None = None  # float32 [horizon], only when several samples were drawn
    vl_age_ms: float | None = None  # age of the visual features used, only when `vl_max_age_ms` was given
    session: str | None = None
    seq: int | None = None
    timestamp_ns: int | None = None
