"""What only the simulated rig publishes, beside its robot state: which scene it is in and how the episode stands.

It stands for the person beside a real rig: a driver takes success from it and never shows it to a policy.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from clients.robots.rig_wire import BadMessage

STATUS_TOPIC = b"rig_sim"


@dataclass(frozen=True)
class RigStatus:
    """One look at the simulated rig."""

    seed: int  # of the scene
    since: float  # s on the rig's clock: when this scene was laid out
    over: bool  # success, abort or time limit
    success: bool
    metrics: Mapping[str, Any] = field(
        default_factory=dict
    )  # `EpisodeMetrics` of the simulator, and its counters


def encode_status(status: RigStatus) -> list[bytes]:
    """Topic and JSON."""
    return [STATUS_TOPIC, json.dumps(asdict(status)).encode()]


def decode_status(parts: Sequence[bytes]) -> RigStatus:
    """Raise `BadMessage` for anything else."""
    if len(parts) != 2 or parts[0] != STATUS_TOPIC:
        raise BadMessage("topic", f"no status: {len(parts)} parts")
    try:
        told = json.loads(parts[1])
        status = RigStatus(
            told["seed"], float(told["since"]), told["over"], told["success"], dict(told["metrics"])
        )
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise BadMessage("header", f"no status: {error!r}") from None
    if not (isinstance(status.seed, int) and math.isfinite(status.since)):
        raise BadMessage("header", "no status: seed or since")
    if not (isinstance(status.over, bool) and isinstance(status.success, bool)):
        raise BadMessage("header", "no status: over or success")
    return status
