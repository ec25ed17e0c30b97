"""The realtime receiver: a control thread that never waits, an inference thread beside it.

    control thread    fixed rate ──► Episode.control_period ──► robot.act / robot.hold
    inference thread  robot.observe ──► Episode.request ──► client.act ──► Episode.replied

What is decided lives in `clients.episode`; here are only the threads, the clock and the order of things.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from clients.chunk_buffer import ChunkPolicy
from clients.client import PolicyClient
from clients.episode import Episode, EpisodeSettings
from clients.episode_trace import EpisodeTrace
from clients.measurements import Measurements
from clients.pacing import Pacer
from clients.robots.base import Robot
from clients.safety import SafetyLimits
from policy.errors import TinyVLAError
from policy.spec import PolicySpec

# Refusals that the next request may well not meet; any other code is a mistake that repeats itself.
PASSING_CODES = frozenset({"superseded", "overloaded", "not_ready", "deadline_exceeded", "internal"})
# Between two looks of the caller's thread at a running episode.
WATCH_S = 0.1
# Pause after a failed request, so that a dead server is not asked in a tight loop.
RETRY_S = 0.1


@dataclass(frozen=True)
class ReceiverSettings:
    """How to run episodes."""

    inference_rate_hz: float = 5.0
    control_rate_hz: float | None = None  # None: the robot's own
    chunk_policy: ChunkPolicy | None = None  # None: rtc where the policy was trained for it, else receding
    ddim_steps: int | None = None
    instruction: str | None = None  # None: the robot's own
    max_change: float | None = None  # largest change of a command per step, as a fraction of its range
    seed: int | None = None


@dataclass(frozen=True)
class EpisodeOutcome:
    """What an episode came to; `trace` holds the details."""

    task: str
    seed: int
    success: bool
    interrupted: bool
    started_at: float  # monotonic seconds
    ended_at: float
    achieved_hz: float | None  # control ticks per second
    ticks: int
    skipped: int  # control ticks given up after overruns
    chunk_policy: ChunkPolicy
    control_rate_hz: float
    safety: dict[str, dict[str, int]]
    trace: EpisodeTrace


class Watcher(Protocol):
    """Told about a running episode from the caller's thread, about ten times a second."""

    def watch(self, episode: Episode, elapsed_s: float) -> None: ...


def chunk_policy_for(spec: PolicySpec, asked: ChunkPolicy | None) -> ChunkPolicy:
    """`rtc` where the policy was trained to continue a prefix, else `receding`, unless asked otherwise."""
    return asked or ("rtc" if spec.max_prefix else "receding")


class Receiver:
    """Runs a policy on a robot.

    Args:
        robot: used by this object's threads while an episode runs.
        client: likewise.
        spec: the contract of the policy behind `client`.
        settings: see `ReceiverSettings`.
        log: told one line at a time, from any thread; must not block.
        interrupt: set from outside (a signal) to end the running episode; only ever looked at.
    """

    def __init__(
        self,
        robot: Robot,
        client: PolicyClient,
        spec: PolicySpec,
        settings: ReceiverSettings,
        log: Callable[[str], None] = lambda line: None,
        interrupt: threading.Event | None = None,
    ) -> None:
        self._interrupt = interrupt or threading.Event()
        self._robot = robot
        self._client = client
        self._spec = spec
        self._settings = settings
        self._log = log
        self.control_rate_hz = settings.control_rate_hz or robot.info.control_rate_hz

    def run_episode(self, seed: int, *, session: str, watcher: Watcher | None = None) -> EpisodeOutcome:
        """Reset the robot, run until it is done, leave it holding.

        Raises:
            TinyVLAError: the server refused a request for a reason that will not pass.
            Exception: whatever the robot raised. The robot holds in either case.
        """
        robot = self._robot
        robot.reset(seed)
        episode = Episode(robot, self._spec, self._episode_settings(seed, session), self._log)
        stop = threading.Event()
        failures: list[Exception] = []
        pacer = Pacer(self.control_rate_hz, jitter=episode.trace.stages["control_jitter_ms"])
        threads = [
            threading.Thread(target=_guarded, args=(body, stop, failures), name=name)
            for name, body in {
                "control": lambda: self._control(episode, pacer, stop),
                "inference": lambda: self._infer(episode, stop),
            }.items()
        ]
        started = time.monotonic()
        interrupted = False
        for thread in threads:
            thread.start()
        try:
            while not stop.wait(WATCH_S):
                if self._interrupt.is_set():
                    interrupted = True
                    break
                if watcher is not None:
                    watcher.watch(episode, time.monotonic() - started)
        except KeyboardInterrupt:
            interrupted = True
        finally:
            stop.set()
            for thread in threads:
                thread.join()
            ended = time.monotonic()
            _guarded(robot.hold, stop, failures)
            # The server may be gone by now, and forgetting a session is a courtesy.
            with contextlib.suppress(TinyVLAError, ConnectionError):
                self._client.reset(session)
        if failures:
            raise failures[0]
        return EpisodeOutcome(
            task=robot.info.task,
            seed=seed,
            success=robot.success,
            interrupted=interrupted,
            started_at=started,
            ended_at=ended,
            achieved_hz=pacer.achieved_hz,
            ticks=pacer.ticks,
            skipped=pacer.skipped,
            chunk_policy=episode.settings.chunk_policy,
            control_rate_hz=self.control_rate_hz,
            safety=episode.safety.counts(),
            trace=episode.trace,
        )

    def _episode_settings(self, seed: int, session: str) -> EpisodeSettings:
        settings = self._settings
        # A plan may rest on an observation as old as three inference periods, and at least a second.
        stale_after = max(1.0, 3.0 / settings.inference_rate_hz)
        limits = SafetyLimits.of(self._spec.action, stale_after_s=stale_after, max_change=settings.max_change)
        return EpisodeSettings(
            instruction=settings.instruction or self._robot.info.instruction,
            chunk_policy=chunk_policy_for(self._spec, settings.chunk_policy),
            limits=limits,
            session=session,
            execute=max(1, math.ceil(self.control_rate_hz / settings.inference_rate_hz)),
            ddim_steps=settings.ddim_steps,
            # Far apart for neighbouring episodes, so that their requests share no noise.
            seed=None if settings.seed is None else seed * 1_000_003 % 2**62,
        )

    def _control(self, episode: Episode, pacer: Pacer, stop: threading.Event) -> None:
        work: Measurements = episode.trace.stages["control_work_ms"]
        while not stop.is_set() and not self._robot.done:
            tick = pacer.wait()
            episode.control_period(tick.began)
            work.add((time.monotonic() - tick.began) * 1e3)

    def _infer(self, episode: Episode, stop: threading.Event) -> None:
        period = 1.0 / self._settings.inference_rate_hz
        due = time.monotonic()
        while not stop.is_set():
            if not episode.wait_until_wanted(WATCH_S):
                continue
            if episode.settings.chunk_policy != "sync" and stop.wait(max(0.0, due - time.monotonic())):
                return
            began = time.monotonic()
            # Requests keep to a grid; one that overran starts the next at once and moves the grid along.
            due = max(due + period, began)
            observation = self._robot.observe()
            if observation is None:
                stop.wait(RETRY_S)
                continue
            sent = time.monotonic()
            episode.trace.stages["capture_ms"].add((sent - began) * 1e3)
            pending = episode.request(observation, sent)
            try:
                reply = self._client.act(pending.request)
            except (TinyVLAError, ConnectionError) as error:
                episode.failed(pending, error, time.monotonic())
                if isinstance(error, TinyVLAError) and error.code not in PASSING_CODES:
                    raise
                stop.wait(RETRY_S)
                continue
            episode.replied(pending, reply, time.monotonic())


def _guarded(body: Callable[[], None], stop: threading.Event, failures: list[Exception]) -> None:
    """Run a thread's body; when it ends, for whatever reason, the other one ends too."""
    try:
        body()
    except Exception as error:
        failures.append(error)
    finally:
        stop.set()
