"""One episode's decisions: what each control period sends, what each request asks, where each reply goes.

No threads and no clocks: the receiver calls `control_period` from its control thread and `request`,
`replied` and `failed` from its inference thread, and passes the time in; a test or a simulated-time
sweep calls them from one loop.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from clients.chunk_buffer import Chunk, ChunkBuffer, ChunkPolicy
from clients.episode_trace import EpisodeTrace, RequestRecord, StepRecord
from clients.hold import hold_action
from clients.prefix_planner import PrefixPlanner
from clients.robots.base import Robot, RobotObservation
from clients.safety import SafetyLayer, SafetyLimits
from policy.errors import TinyVLAError
from policy.observation import Observation, SampleOptions
from policy.spec import PolicySpec
from service.wire.messages import ActReply, ActRequest


@dataclass(frozen=True)
class EpisodeSettings:
    """How to run one episode."""

    instruction: str
    chunk_policy: ChunkPolicy
    limits: SafetyLimits
    session: str
    execute: int = 16  # actions of a chunk that `sync` executes
    ddim_steps: int | None = None
    seed: int | None = None  # of the sampler's noise; each request derives its own from it
    deadline_ms: float | None = None


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


class Episode:
    """The state of one episode, safe to use from two threads.

    Args:
        robot: commanded by `control_period` only.
        spec: the policy's contract.
        settings: this episode's.
        log: told one line whenever something worth knowing happens.
    """

    def __init__(
        self,
        robot: Robot,
        spec: PolicySpec,
        settings: EpisodeSettings,
        log: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.spec = spec
        self.settings = settings
        self.trace = EpisodeTrace()
        self.safety = SafetyLayer(settings.limits, log)
        self._robot = robot
        self._log = log
        self._lock = threading.Lock()  # around the buffer, for microseconds
        self._buffer = ChunkBuffer(settings.chunk_policy, execute=settings.execute)
        self._ran_out = threading.Event()
        self._prefixes = PrefixPlanner(spec.max_prefix)
        self._last = np.asarray(robot.info.resting_command, np.float32)
        self._seq = 0
        self._reacted_seq = -1
        self._started = False
        self._contiguous = False
        self._pending_since: float | None = None
        self._failing = False

    def control_period(self, now: float) -> None:
        """Command the robot for one period: the planned action, or hold."""
        with self._lock:
            planned = self._buffer.next_action()
        if planned is None and self._waiting_is_normal(now):
            self.trace.waited += 1
            self._hold(now)
            return
        self._started = True
        command = self.safety.command(
            planned.action if planned else None,
            self._last,
            plan_age_s=now - planned.chunk.captured_at if planned else 0.0,
            server_trouble=self._server_trouble(now),
        )
        if command is None or planned is None:
            self.trace.held += 1
            self._hold(now)
            return
        with self._lock:
            self._buffer.executed(planned, command)
            remaining = self._buffer.remaining
        self._robot.act(command)
        if planned.chunk.seq > self._reacted_seq:
            self._reacted_seq = planned.chunk.seq
            self.trace.stages["reaction_ms"].add((now - planned.chunk.captured_at) * 1e3)
        self.trace.executed += 1
        self.trace.steps.append(
            StepRecord(now, command, planned.step, planned.chunk.seq, planned.seam, self._contiguous)
        )
        self._last, self._contiguous = command, True
        if not remaining:
            self._ran_out.set()

    def wait_until_wanted(self, timeout: float) -> bool:
        """Whether a request makes sense now; waits up to `timeout` seconds for the plan to run out if not."""
        with self._lock:
            if self._buffer.wants_observation:
                return True
        self._ran_out.wait(timeout)
        self._ran_out.clear()
        return False

    def request(self, observation: RobotObservation, now: float) -> PendingRequest:
        """What to ask for this observation, committed actions included under `rtc`."""
        settings = self.settings
        with self._lock:
            prefix = self._prefix(observation.control_step)
            held = self._held
        seq, self._seq = self._seq, self._seq + 1
        options = SampleOptions(
            ddim_steps=settings.ddim_steps,
            seed=None if settings.seed is None else (settings.seed + seq) % 2**63,
            prefix=prefix,
        )
        request = ActRequest(
            observation=Observation(
                # A robot may have more cameras and sensors than the policy looks at.
                {c.name: observation.images[c.name] for c in self.spec.cameras},
                np.asarray(observation.state, np.float32),
                settings.instruction,
                {
                    s.name: observation.sensors[s.name]
                    for s in self.spec.sensors
                    if s.name in observation.sensors
                },
            ),
            options=options,
            session=settings.session,
            seq=seq,
            timestamp_ns=int(now * 1e9),
            deadline_ms=settings.deadline_ms,
        )
        first_camera = next(iter(observation.images.values()), None)
        if first_camera is not None:
            self.trace.add_frame(observation.captured_at, first_camera)
        self._pending_since = now
        length = 0 if prefix is None else len(prefix)
        return PendingRequest(
            request, seq, observation.control_step, observation.captured_at, now, held, length
        )

    def replied(self, pending: PendingRequest, reply: ActReply, now: float) -> str:
        """Splice a reply in; returns the buffer's verdict, or `unusable` for one that breaks the contract."""
        self._pending_since = None
        if wrong := self._wrong_with(pending, reply):
            self._end(pending, now, "unusable", None, 0)
            self._trouble(f"a reply was dropped: {wrong}")
            return "unusable"
        actions = np.array(reply.actions, np.float32)
        with self._lock:
            consumed = self._buffer.step - pending.obs_step
            verdict = self._buffer.offer(Chunk(actions, pending.obs_step, pending.seq, pending.captured_at))
            passed = consumed + self._held - pending.held_before
        self._prefixes.measured(passed)
        self._end(pending, now, verdict, actions, consumed)
        self._measure(pending, reply, now, consumed)
        if self._failing:
            self._failing = False
            self._log("inference: replies come again")
        return verdict

    def failed(self, pending: PendingRequest, error: TinyVLAError | ConnectionError, now: float) -> None:
        """No usable reply came; the plan goes on and the next request is free to go."""
        self._pending_since = None
        outcome = error.code if isinstance(error, TinyVLAError) else "connection"
        self._end(pending, now, outcome, None, 0)
        self._trouble(f"no reply ({outcome}): {error}")

    @property
    def remaining(self) -> int:
        """Control steps planned ahead."""
        with self._lock:
            return self._buffer.remaining

    @property
    def step(self) -> int:
        """Control steps executed."""
        return self._buffer.step

    @property
    def _held(self) -> int:
        return self.trace.held + self.trace.waited

    def _prefix(self, from_step: int) -> np.ndarray | None:
        if self.settings.chunk_policy != "rtc" or not (length := self._prefixes.length):
            return None
        committed = self._buffer.committed(from_step, length)
        if not len(committed) or not np.isfinite(committed).all():
            return None
        # What will be commanded, and what demonstrations hold, lies within the bounds.
        return np.clip(committed, self.settings.limits.low, self.settings.limits.high)

    def _hold(self, now: float) -> None:
        info = self._robot.info
        self._last = hold_action(info.action_kind, self._last, info.kept_on_hold)
        self._robot.hold()
        self.trace.steps.append(StepRecord(now, None, self._buffer.step, -1, False, False))
        self._contiguous = False
        self._ran_out.set()

    def _wrong_with(self, pending: PendingRequest, reply: ActReply) -> str | None:
        dim = self.spec.action.dim
        if reply.actions.ndim != 2 or reply.actions.shape[1] != dim or not len(reply.actions):
            return f"actions of shape {list(reply.actions.shape)}, not [H, {dim}]"
        if not np.isfinite(reply.actions).all():
            return "its actions hold NaN or infinity"
        if reply.seq != pending.seq or reply.session != self.settings.session:
            return (
                f"it answers request {reply.session}/{reply.seq}, not {self.settings.session}/{pending.seq}"
            )
        return None

    def _waiting_is_normal(self, now: float) -> bool:
        """Before the first chunk, and between the chunks of `sync`, holding is no fault."""
        return not self._started or (self.settings.chunk_policy == "sync" and not self._server_trouble(now))

    def _server_trouble(self, now: float) -> bool:
        overdue = (
            self._pending_since is not None
            and now - self._pending_since > self.safety.limits.stale_after_s / 2
        )
        return self._failing or overdue

    def _trouble(self, line: str) -> None:
        if not self._failing:
            self._failing = True
            self._log(f"inference: {line}")

    def _end(
        self, pending: PendingRequest, now: float, outcome: str, actions: np.ndarray | None, consumed: int
    ) -> None:
        self.trace.add_request(
            RequestRecord(
                pending.seq, pending.obs_step, pending.captured_at, pending.sent_at, now, outcome, actions,
                consumed, pending.prefix,
            )
        )  # fmt: skip

    def _measure(self, pending: PendingRequest, reply: ActReply, now: float, consumed: int) -> None:
        stages, timing = self.trace.stages, reply.timing_ms
        round_trip = (now - pending.sent_at) * 1e3
        stages["round_trip_ms"].add(round_trip)
        for part in ("decode", "queue", "encode", "sample", "total"):
            stages[f"server_{part}_ms"].add(getattr(timing, part))
        stages["transport_ms"].add(max(0.0, round_trip - timing.total))
        stages["consumed_steps"].add(consumed)
