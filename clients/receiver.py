"""The realtime receiver: a control thread that never waits, an inference thread and a watchdog beside it.

    control thread    fixed rate ──► Episode.control_period ──► robot.act / robot.hold
    inference thread  robot.observe ──► Episode.request ──► client.act ──► Episode.replied
    watchdog          robot.hold where the control thread misses its beat

What is decided lives in `clients.episode`; here are only the threads, the clock and the order of things.
"""

from __future__ import annotations

import contextlib
import gc
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from clients.chunk_buffer import ChunkPolicy
from clients.client import PolicyClient
from clients.episode import Episode
from clients.episode_settings import ReceiverSettings, chunk_policy_for, episode_settings
from clients.episode_trace import EpisodeTrace
from clients.inference_loop import run_inference
from clients.operator import Operator
from clients.pacing import Pacer
from clients.priority import run_at_once
from clients.robots.base import Robot
from clients.safety_limits import Cause
from clients.smoothness import Smoothness, episode_smoothness
from clients.steady_client import SteadyClient
from clients.watchdog import Watchdog
from policy.errors import TinyVLAError
from policy.spec import PolicySpec

__all__ = ["EpisodeOutcome", "Receiver", "ReceiverSettings", "Watcher", "chunk_policy_for"]

# Between two looks of the caller's thread at a running episode.
WATCH_S = 0.1
# A robot that has not come to rest by then hangs in its driver.
HANGS_S = 1.0


@dataclass(frozen=True)
class EpisodeOutcome:
    """What an episode came to; `trace` holds the details."""

    task: str
    seed: int
    success: bool
    interrupted: bool
    stopped: Cause | None  # what made the safety layer end it
    started_at: float  # monotonic seconds
    ended_at: float
    achieved_hz: float | None  # control ticks per second
    ticks: int
    skipped: int  # control ticks given up after overruns
    chunk_policy: ChunkPolicy
    control_rate_hz: float
    safety: dict[str, dict[str, int]]
    smoothness: Smoothness
    trace: EpisodeTrace
    robot: Mapping[str, Any] = field(default_factory=dict)  # what the robot has to tell, see `Reporting`


class Watcher(Protocol):
    """Told about a running episode from the caller's thread, about ten times a second."""

    def watch(self, episode: Episode, elapsed_s: float) -> None: ...


class Receiver:
    """Runs a policy on a robot.

    Args:
        robot: used by this object's threads while an episode runs.
        client: likewise. A policy that the server swaps in drives on if its contract is `spec`'s in all that matters.
        spec: the contract of the policy behind `client`.
        settings: see `ReceiverSettings`.
        log: told one line at a time, from any thread; must not block.
        interrupt: set from outside (a signal) to end the running episode; only ever looked at.
        operator: asked where `on_uncertain` says so; without one the robot holds.
    """

    def __init__(
        self,
        robot: Robot,
        client: PolicyClient,
        spec: PolicySpec,
        settings: ReceiverSettings,
        log: Callable[[str], None] = lambda line: None,
        interrupt: threading.Event | None = None,
        operator: Operator | None = None,
    ) -> None:
        self._operator = operator
        self._interrupt = interrupt or threading.Event()
        self._robot = robot
        self._client = SteadyClient(client, spec, log)
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
        self._robot.reset(seed)
        with _no_long_collections():
            return self._run_episode(seed, session, watcher)

    def _run_episode(self, seed: int, session: str, watcher: Watcher | None) -> EpisodeOutcome:
        robot = self._robot
        settings = episode_settings(robot.info, self._spec, self._settings, seed, session)
        started = time.monotonic()
        episode = Episode(robot, self._spec, settings, self._log, started=started)
        stop, at_rest = threading.Event(), threading.Event()
        failures: list[Exception] = []
        pacer = Pacer(self.control_rate_hz, jitter=episode.trace.stages["control_jitter_ms"])
        watchdog = Watchdog(episode, robot, pacer.period, settings.limits.watchdog_s)

        def control() -> None:
            episode.trace.real_time_priority = run_at_once()
            # Whatever ends control, and whatever the other threads do, the robot is left standing still.
            _guarded(lambda: self._control(episode, pacer, watchdog, stop), stop, failures)
            _guarded(lambda: episode.rest(time.monotonic()), stop, failures)
            at_rest.set()

        def inference() -> None:
            _guarded(lambda: self._infer(episode, stop), stop, failures)

        def watch_over() -> None:
            _guarded(lambda: watchdog.run(at_rest), stop, failures)

        # Daemons, so that a driver that hangs cannot keep the process from ending.
        threads = [
            threading.Thread(target=body, name=name, daemon=True)
            for name, body in (("control", control), ("inference", inference), ("watchdog", watch_over))
        ]
        interrupted = False
        for thread in threads:
            thread.start()
        try:
            while not stop.wait(WATCH_S):
                if self._interrupt.is_set():
                    interrupted = True
                    break
                self._ask_operator(episode)
                if watcher is not None:
                    watcher.watch(episode, time.monotonic() - started)
        except KeyboardInterrupt:
            interrupted = True
        finally:
            stop.set()
            _wait_for(at_rest)
            ended = time.monotonic()
            for thread in threads:
                thread.join()
            # The server may be gone by now, and forgetting a session is a courtesy.
            with contextlib.suppress(TinyVLAError, ConnectionError):
                self._client.reset(session)
        if failures:
            raise failures[0]
        return EpisodeOutcome(
            task=robot.info.task,
            seed=seed,
            success=bool(robot.success),  # NumPy's goes into no report and no recording
            interrupted=interrupted,
            stopped=episode.stopped,
            started_at=started,
            ended_at=ended,
            achieved_hz=pacer.achieved_hz,
            ticks=pacer.ticks,
            skipped=pacer.skipped,
            chunk_policy=episode.settings.chunk_policy,
            control_rate_hz=self.control_rate_hz,
            safety=episode.safety.counts(),
            smoothness=episode_smoothness(
                episode.trace, self._spec.action, self.control_rate_hz, robot.info.kept_on_hold
            ),
            trace=episode.trace,
        )

    def _control(self, episode: Episode, pacer: Pacer, watchdog: Watchdog, stop: threading.Event) -> None:
        work = episode.trace.stages["control_work_ms"]
        while not (stop.is_set() or self._robot.done or episode.stopped):
            tick = pacer.wait()
            watchdog.beat(tick.began)
            episode.control_period(tick.began)
            work.add((time.monotonic() - tick.began) * 1e3)

    def _infer(self, episode: Episode, stop: threading.Event) -> None:
        run_inference(
            episode,
            self._robot,
            self._client,
            stop,
            inference_rate_hz=self._settings.inference_rate_hz,
            adaptive=self._settings.adaptive,
        )

    def _ask_operator(self, episode: Episode) -> None:
        question = episode.uncertainty.question
        if question is not None and self._operator is not None:
            answer = self._operator.ask(question)
            if answer is not None:
                episode.uncertainty.answer(answer)


@contextlib.contextmanager
def _no_long_collections() -> Iterator[None]:
    """Within the block the garbage collector looks only at what is made in it.

    To go through everything that MuJoCo and the rest have loaded takes it some 60 ms, during which no thread runs.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _wait_for(at_rest: threading.Event) -> None:
    """Also where somebody presses Ctrl-C again and again, unless the driver hangs."""
    try:
        at_rest.wait()
    except KeyboardInterrupt:
        at_rest.wait(HANGS_S)
        raise


def _guarded(body: Callable[[], None], stop: threading.Event, failures: list[Exception]) -> None:
    """Run a thread's body; when it ends, for whatever reason, the others end too."""
    try:
        body()
    except Exception as error:
        failures.append(error)
    finally:
        stop.set()
