"""The inference thread: the newest complete observation out, its chunk in, and patience with a server in trouble."""

from __future__ import annotations

import threading
import time

from clients.adaptive_rate import AdaptivePeriod
from clients.client import PolicyClient
from clients.episode import Episode
from clients.robots.base import Robot
from policy.errors import TinyVLAError

# Refusals that the next request may well not meet. Any other is a mistake that repeats itself, or the mark of a
# request that was damaged on its way.
PASSING_CODES = frozenset({"superseded", "overloaded", "not_ready", "deadline_exceeded", "internal"})
# So many of the others in a row are no accident.
REFUSALS = 3
# Longest wait for the plan to run out before looking again whether the episode is over.
LOOK_S = 0.1
# Pause after a failed request or an unusable observation, so that nothing is asked in a tight loop.
RETRY_S = 0.1


def run_inference(
    episode: Episode,
    robot: Robot,
    client: PolicyClient,
    stop: threading.Event,
    *,
    inference_rate_hz: float,
    adaptive: bool = False,
) -> None:
    """Ask until `stop` is set.

    Raises:
        TinyVLAError: the server keeps refusing for a reason that will not pass.
    """
    pace = AdaptivePeriod(1.0 / inference_rate_hz)
    due, refusals = time.monotonic(), 0
    while not stop.is_set():
        if not episode.wait_until_wanted(LOOK_S):
            continue
        if episode.settings.chunk_policy != "sync" and stop.wait(max(0.0, due - time.monotonic())):
            return
        began = time.monotonic()
        # Requests keep to a grid; one that overran starts the next at once and moves the grid along.
        due = max(due + pace.period_s, began)
        observation = robot.observe()
        seen = time.monotonic()
        if not episode.usable(observation, seen) or observation is None:
            stop.wait(RETRY_S)
            continue
        episode.trace.stages["capture_ms"].add((seen - began) * 1e3)
        pending = episode.request(observation, seen)
        try:
            reply = client.act(pending.request)
        except (TinyVLAError, ConnectionError) as error:
            episode.failed(pending, error, time.monotonic())
            passing = not isinstance(error, TinyVLAError) or error.code in PASSING_CODES
            refusals = 0 if passing else refusals + 1
            if refusals >= REFUSALS:
                raise
            stop.wait(RETRY_S)
            continue
        refusals = 0
        episode.replied(pending, reply, time.monotonic())
        if adaptive:
            pace.measured(time.monotonic() - began)
