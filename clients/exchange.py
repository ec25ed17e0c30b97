"""One exchange with a policy: the request made of an observation, and whether a reply may be used."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clients.robots.base import RobotObservation
from policy.observation import Observation, SampleOptions
from policy.spec import PolicySpec
from service.wire.messages import ActReply, ActRequest


@dataclass(frozen=True)
class PendingRequest:
    """A request on its way, with what is needed to place its reply."""

    request: ActRequest
    seq: int
    obs_step: int
    captured_at: float
    sent_at: float
    held_before: int  # control periods held until it was sent
    prefix: int


def policy_observation(spec: PolicySpec, seen: RobotObservation, instruction: str) -> Observation:
    """What the policy looks at; a robot may have more cameras and sensors."""
    return Observation(
        {camera.name: seen.images[camera.name] for camera in spec.cameras},
        np.asarray(seen.state, np.float32),
        instruction,
        {sensor.name: seen.sensors[sensor.name] for sensor in spec.sensors if sensor.name in seen.sensors},
    )


def make_request(
    observation: Observation,
    options: SampleOptions,
    *,
    session: str,
    seq: int,
    now: float,
    deadline_ms: float | None,
) -> ActRequest:
    """The request of one observation; `now` is echoed by the server and never compared."""
    return ActRequest(
        observation=observation,
        options=options,
        session=session,
        seq=seq,
        timestamp_ns=int(now * 1e9),
        deadline_ms=deadline_ms,
    )


def wrong_with(pending: PendingRequest, reply: ActReply, spec: PolicySpec) -> str | None:
    """Why a reply may not be used, in words; None where nothing is wrong with it."""
    dim, asked = spec.action.dim, pending.request
    if reply.actions.ndim != 2 or reply.actions.shape[1] != dim or not len(reply.actions):
        return f"actions of shape {list(reply.actions.shape)}, not [H, {dim}]"
    if not np.isfinite(reply.actions).all():
        return "its actions hold NaN or infinity"
    if reply.seq != pending.seq or reply.session != asked.session:
        return f"it answers request {reply.session}/{reply.seq}, not {asked.session}/{pending.seq}"
    if reply.uncertainty is not None and reply.uncertainty.shape != (len(reply.actions),):
        return f"uncertainty of shape {list(reply.uncertainty.shape)} for {len(reply.actions)} actions"
    return None
