"""One episode's decisions: what each control period sends, what each request asks, where each reply goes.

No threads and no clocks: the receiver calls `control_period` from its control thread and `usable`, `request`,
`replied` and `failed` from its inference thread, and passes the time in; a test or a simulated-time sweep calls
them from one loop.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

from clients.chunk_buffer import Chunk, ChunkBuffer, PlannedAction
from clients.commander import Commander
from clients.episode_settings import EpisodeSettings
from clients.episode_trace import EpisodeTrace, RequestRecord, StepRecord
from clients.exchange import PendingRequest, make_request, policy_observation, wrong_with
from clients.observation_guard import ObservationGuard
from clients.prefix_planner import PrefixPlanner
from clients.robots.base import Robot, RobotObservation
from clients.safety import Fault, SafetyLayer
from clients.safety_limits import Cause
from clients.uncertainty import UncertaintyGate, chunk_uncertainty
from policy.errors import TinyVLAError
from policy.observation import SampleOptions
from policy.spec import PolicySpec
from service.wire.messages import ActReply


class Episode:
    """The state of one episode, safe to use from the control, the inference and the watchdog's thread.

    Args:
        robot: commanded by `control_period`, `take_over` and `rest` only.
        spec: the policy's contract.
        settings: this episode's.
        log: told one line whenever something worth knowing happens.
        started: monotonic seconds.
    """

    def __init__(
        self,
        robot: Robot,
        spec: PolicySpec,
        settings: EpisodeSettings,
        log: Callable[[str], None] = lambda line: None,
        *,
        started: float = 0.0,
    ) -> None:
        info = robot.info
        self.spec = spec
        self.settings = settings
        self.trace = EpisodeTrace()
        self.safety = SafetyLayer(settings.limits, 1 / settings.control_rate_hz, info.kept_on_hold, log)
        self.uncertainty = UncertaintyGate(settings.on_uncertain, settings.uncertainty_threshold)
        self.stopped: Cause | None = None  # why the safety layer ended the episode
        self._guard = ObservationGuard(spec, settings.limits, info.sensors, started, info.may_be_silent)
        self._commander = Commander(robot, self.safety.motion, 1 / settings.control_rate_hz)
        self._log = log
        self._lock = threading.Lock()  # around the buffer, for microseconds
        self._buffer = ChunkBuffer(settings.chunk_policy, execute=settings.execute)
        self._just_spliced = False  # no control period has run since the newest chunk came
        self._progress = threading.Event()  # a request may make sense that made none before
        self._prefixes = PrefixPlanner(spec.max_prefix)
        self._seq = 0
        self._reacted_seq = -1
        self._started = False
        self._contiguous = False
        self._pending_since: float | None = None
        self._failing = False

    def control_period(self, now: float) -> None:
        """Command the robot for one period: the planned action, or hold."""
        self._commander.begin_period()
        with self._lock:
            planned = self._buffer.next_action()
        waiting = planned is None and self._waiting_is_normal(now)
        self._started = self._started or not waiting
        action = planned.action if planned else None
        faults = self._faults(planned, waiting, now)
        self.trace.stale += any(c.startswith("stale_") and fault.serious for c, fault in faults.items())
        decision = self.safety.command(action, self._commander.last, now, faults, waiting=waiting)
        self.stopped = self.stopped or decision.stop
        if decision.command is None or planned is None or not self._execute(planned, decision.command, now):
            self.trace.waited += waiting
            self.trace.held += not waiting
            # What stops the episode stops the robot at once.
            self._commander.hold(now, at_once=self.stopped is not None)
            self._record_hold(now)

    def take_over(self, now: float, silent_s: float) -> bool:
        """The watchdog's: hold for one period in place of a control thread that has missed its beat.

        Args:
            now: monotonic seconds.
            silent_s: since the control thread last began a period.

        Returns:
            False where the control thread hangs in the robot's driver, which takes one command at a time.
        """
        self.safety.missed_beat(silent_s)
        if self.settings.limits.response("watchdog") == "stop":
            self.stopped = self.stopped or "watchdog"
        if not self._commander.take_over(now):
            return False
        self.trace.held += 1
        self._record_hold(now)
        return True

    def rest(self, now: float) -> None:
        """The episode is over: leave the robot standing still."""
        self._commander.rest(now)

    def wait_until_wanted(self, timeout: float) -> bool:
        """Whether a request makes sense now; waits up to `timeout` seconds for that to change if not.

        Right after a splice it makes none: until the robot has begun to follow the chunk, the first one above all, it
        stands where it stood, and to see the same again would cost a whole request's time.
        """
        with self._lock:
            if self._buffer.wants_observation and not self._just_spliced:
                return True
        self._progress.wait(timeout)
        self._progress.clear()
        return False

    def usable(self, observation: RobotObservation | None, now: float) -> bool:
        """Whether to make a request of what the robot saw; what is wrong with it goes to the safety layer."""
        usable = self._guard.look(observation, now)
        if observation is not None and usable:
            self.safety.motion.located(observation.state, observation.control_step, observation.captured_at)
        return usable

    def request(self, observation: RobotObservation, now: float) -> PendingRequest:
        """What to ask for this observation, committed actions included under `rtc`."""
        settings = self.settings
        with self._lock:
            prefix = self._prefix(observation.control_step, now)
            held = self._held
        seq, self._seq = self._seq, self._seq + 1
        options = SampleOptions(
            ddim_steps=settings.ddim_steps,
            seed=None if settings.seed is None else (settings.seed + seq) % 2**63,
            prefix=prefix,
            samples=settings.samples,
        )
        request = make_request(
            policy_observation(self.spec, observation, settings.instruction),
            options,
            session=settings.session,
            seq=seq,
            now=now,
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
        if wrong := wrong_with(pending, reply, self.spec):
            self._end(pending, now, "unusable", None, 0)
            self._trouble(f"a reply was dropped: {wrong}")
            return "unusable"
        actions = np.array(reply.actions, np.float32)
        with self._lock:
            consumed = self._buffer.step - pending.obs_step
            first = max(consumed, pending.prefix)
            uncertainty = chunk_uncertainty(reply.uncertainty, first, self.settings.execute)
            chunk = Chunk(
                actions, pending.obs_step, pending.seq, pending.captured_at, uncertainty, pending.prefix
            )
            verdict = self._buffer.offer(chunk)
            self._just_spliced = self._just_spliced or verdict == "accepted"
            passed = consumed + self._held - pending.held_before
        self._end(pending, now, verdict, actions, consumed)
        if verdict == "accepted":
            self.trace.policies[reply.policy] += 1
        if verdict in ("accepted", "spent"):  # a reply that comes twice says nothing about how long one takes
            self._prefixes.measured(passed)
            self._measure(pending, reply, now, consumed)
            if uncertainty is not None and np.isfinite(uncertainty):
                self.trace.stages["uncertainty"].add(uncertainty)
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

    def _faults(self, planned: PlannedAction | None, waiting: bool, now: float) -> dict[Cause, Fault]:
        """What is wrong besides the planned action itself."""
        faults = dict(self._guard.faults)
        serious = any(fault.serious for fault in faults.values())
        if planned is None:
            return faults if waiting or serious else faults | self._culprit("no plan is left", now)
        age = now - planned.chunk.captured_at
        if age > self.settings.limits.stale_plan_s and not serious:
            why = f"the plan rests on an observation {age:.2f} s old"
            faults |= self._culprit(why, now) or {"stale_observation": Fault(f"{why}; no newer one came")}
        if unsure := self.uncertainty.look(planned.chunk.uncertainty):
            faults["uncertain"] = unsure
            if self.uncertainty.refused:
                self.stopped = "uncertain"
        return faults

    def _culprit(self, why: str, now: float) -> dict[Cause, Fault]:
        """Who is to blame that no newer chunk came; nobody where all goes its way."""
        if noted := self._guard.faults:
            return {cause: Fault(f"{why}: {fault.why}") for cause, fault in noted.items()}
        if self._server_trouble(now):
            return {"stale_server": Fault(f"{why}; the server does not answer")}
        return {}

    def _execute(self, planned: PlannedAction, command: np.ndarray, now: float) -> bool:
        def consume() -> None:
            with self._lock:
                self._buffer.executed(planned, command)

        if not self._commander.act(command, now, before=consume):
            return False
        if planned.chunk.seq > self._reacted_seq:
            self._reacted_seq = planned.chunk.seq
            self.trace.stages["reaction_ms"].add((now - planned.chunk.captured_at) * 1e3)
        self.trace.executed += 1
        self.trace.steps.append(
            StepRecord(now, command, planned.step, planned.chunk.seq, planned.seam, self._contiguous, command)
        )
        self._contiguous = True
        self._period_over(ran_out=not self.remaining)
        return True

    def _record_hold(self, now: float) -> None:
        sent = self._commander.last
        self.trace.steps.append(StepRecord(now, None, self._buffer.step, -1, False, False, sent))
        self._contiguous = False
        self._period_over(ran_out=True)

    def _period_over(self, *, ran_out: bool) -> None:
        if ran_out or self._just_spliced:
            self._just_spliced = False
            self._progress.set()

    def _prefix(self, from_step: int, now: float) -> np.ndarray | None:
        if self.settings.chunk_policy != "rtc" or not (length := self._prefixes.length):
            return None
        # What the plan will be too old for is not committed: a reply that continued it would be older still.
        fresh_s = self.settings.limits.stale_plan_s - (now - self._buffer.captured_at)
        fresh = int(max(0.0, min(fresh_s * self.settings.control_rate_hz, length)))
        committed = self._buffer.committed(from_step, min(length, self._buffer.step - from_step + fresh))
        if not len(committed) or not np.isfinite(committed).all():
            return None
        # What will be commanded, and what demonstrations hold, lies within the bounds.
        return np.clip(committed, self.settings.limits.low, self.settings.limits.high)

    def _waiting_is_normal(self, now: float) -> bool:
        """Before the first chunk, and between the chunks of `sync`, holding is no fault."""
        return not self._started or (self.settings.chunk_policy == "sync" and not self._server_trouble(now))

    def _server_trouble(self, now: float) -> bool:
        overdue = (
            self._pending_since is not None
            and now - self._pending_since > self.settings.limits.stale_plan_s / 2
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
