"""The needle-insertion rig as a robot: the rig's wire on one side, `clients.robots.base.Robot` on the other.

Drives the real rig and the simulated one alike; only addresses differ. The arm holds whenever a stream that it
needs is too old, whatever it was told, and the rig stops by itself when nothing is sent at all.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from clients.measurements import Measurements
from clients.robots.base import RobotInfo, RobotObservation, RobotRequest
from clients.robots.needle_rig_config import RigConfig, load_config
from clients.robots.needle_rig_contract import (
    ACTION_NAMES,
    CAMERA_RATE_HZ,
    CONTROL_RATE_HZ,
    INSTRUCTION,
    SENSOR,
    STATE_NAMES,
    TASK,
)
from clients.robots.needle_rig_link import RigLink
from clients.robots.needle_rig_memory import HALF_FRAME_S, Instant, RigMemory
from clients.robots.rig_wire import Command
from clients.robots.rig_wire_status import RigStatus
from policy.errors import UsageError

_STILL = (0.0,) * 6
# A little more than a frame, for cameras whose period jitters.
_FRAME_S = 1.25 / CAMERA_RATE_HZ
# Samples come in datagrams; those up to a picture's instant are there soon after it.
_SAMPLES_S = 0.04


def make(request: RobotRequest) -> NeedleRig:
    """The rig of `--robot-config`, or the simulated one on this machine.

    Raises:
        UsageError: the configuration will not do, or a port is in use.
    """
    return NeedleRig(load_config(request.config))


class NeedleRig:
    """One rig.

    Args:
        config: addresses, camera names, limits of age.
        log: told one line at the first message of each kind that cannot be used, and when the arm holds.
        clock: monotonic seconds.

    Raises:
        UsageError: a port is in use or an address is none.
    """

    def __init__(
        self,
        config: RigConfig,
        log: Callable[[str], None] = lambda line: print(line, flush=True),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.info = RobotInfo(
            name="needle-rig",
            task=TASK,
            cameras=tuple(config.cameras),
            state_names=STATE_NAMES,
            action_names=ACTION_NAMES,
            action_kind="delta",
            control_rate_hz=CONTROL_RATE_HZ,
            instruction=INSTRUCTION,
            resting_command=np.zeros(6, np.float32),
            sensors=(SENSOR,),
            may_be_silent=() if config.episode.needs_sensor else (SENSOR,),
            frame_rate_hz=CAMERA_RATE_HZ,
        )
        self._config, self._log, self._clock = config, log, clock
        self._memory = RigMemory(tuple(config.cameras), log, clock, needs_sensor=config.episode.needs_sensor)
        self.link = RigLink(config, self._memory, clock)
        self._acted: deque[float] = deque(maxlen=1024)  # local times of the newest control steps
        self._steps = 0
        self._counting = threading.Lock()  # around the two above
        self._scene: float | None = None  # when the simulated rig laid this episode's scene out, on its clock
        self._began = clock()
        # Thread -> instant of the newest observation it was given: recorder and inference each see every one.
        self._shown: dict[int, float] = {}
        self._holding: str | None = None
        self._ages = Measurements()
        self.held_steps = 0  # actions that were not executed because a stream was stale

    def reset(self, seed: int) -> None:
        """Start the rig; the simulated one lays out the scene of `seed`. Blocks until every stream is there.

        Raises:
            UsageError: the rig does not take commands, or what is missing after `episode.ready_within` seconds.
        """
        config = self._config
        if not self.link.send(Command("stop"), wait_s=config.episode.ready_within):
            raise UsageError(
                f"no needle rig takes commands at {config.rig}:{config.ports.commands}; "
                "start it, or `tinyvla rig-sim` for the simulated one"
            )
        before = self.link.status.since if self.link.status else None
        self._memory.forget()
        self.link.send(Command("start", seed=seed), wait_s=1.0)
        until = self._clock() + config.episode.ready_within
        self._scene = None
        while missing := self._memory.missing() + self._unsettled(seed):
            if (left := until - self._clock()) <= 0:
                raise UsageError(f"the needle rig is not ready: {'; '.join(missing)}")
            status = self.link.status
            if self._scene is None and status is not None and status.seed == seed and status.since != before:
                self._scene = status.since
                self._memory.forget(status.since)
            self._memory.wait(lambda: not self._memory.missing(), min(left, 0.05))
        self._memory.start_counting()
        self._ages, self.held_steps = Measurements(), 0
        self._acted.clear()
        self._shown.clear()
        self._steps, self._began = 0, self._clock()
        self._holding = None

    def observe(self) -> RobotObservation | None:
        """The newest complete observation, waiting up to a frame for one that has not been given out yet.

        None when a view is missing or anything the arm needs is too old.
        """
        until = self._clock() + _FRAME_S
        if self._clock() - self._memory.pictured_at > HALF_FRAME_S:
            # The next pictures are nearer than the last ones.
            self._memory.wait(self._is_pictured_anew(self._memory.pictured_at), 1.2 * HALF_FRAME_S)
        if not self._memory.wait(self._has_news, max(0.0, until - self._clock())):
            return None
        # The samples up to the pictures' instant; where the sensor is behind or silent, what there is counts.
        self._memory.wait(self._is_sampled, _SAMPLES_S)
        instant = self._memory.instant()
        if instant is None or self._stale() is not None:
            return None
        self._shown[threading.get_ident()] = instant.at
        self._ages.add(1e3 * (self._clock() - instant.at))
        return self._observation(instant)

    def act(self, action: np.ndarray) -> None:
        """Send one delta; stands still instead while a stream that the arm needs is too old. Counts a control step."""
        stale = self._stale()
        if stale is None and not np.isfinite(action).all():
            stale = "the action holds NaN or infinity"
        self._tell_holding(stale)
        self.held_steps += stale is not None
        vector = _STILL if stale is not None else tuple(float(value) for value in action)
        self.link.send(Command("dpose", vector))
        with self._counting:
            self._steps += 1
            self._acted.append(self._clock())

    def hold(self, command: np.ndarray) -> None:
        """Send what stands still or comes to a stop; nothing but standing still while a stream is too old."""
        usable = self._stale() is None and bool(np.isfinite(command).all())
        self.link.send(Command("dpose", tuple(float(value) for value in command) if usable else _STILL))

    @property
    def done(self) -> bool:
        """The simulated rig says that the episode is over; on a real one, the time limit."""
        late = self._clock() - self._began > self._config.episode.time_limit
        return late or (self._status is not None and self._status.over)

    @property
    def success(self) -> bool:
        """What the simulated rig says; a real one has nobody to say so."""
        return self._status is not None and self._status.success

    def log_to(self, log: Callable[[str], None]) -> None:
        """Tell lines to `log` from now on."""
        self._log = self._memory.log = log

    def episode_report(self) -> dict[str, Any]:
        """Losses, faults and clocks of the streams since the reset; the simulated rig's own measure."""
        status = self._status
        return self._memory.report() | {
            "observation_age_ms": self._ages.summary(),
            "held_steps": self.held_steps,
            "episode": dict(status.metrics) if status is not None else None,
        }

    def halt(self) -> None:
        """Stop the arm until the next reset; from any thread."""
        self.link.halt()

    def close(self) -> None:
        """Stop the arm and let go of it."""
        self.link.send(Command("stop"))
        self.link.close()

    @property
    def _status(self) -> RigStatus | None:
        """Of this episode's scene, from the simulated rig."""
        status = self.link.status
        return status if status is not None and status.since == self._scene else None

    def _unsettled(self, seed: int) -> list[str]:
        """Why a simulated rig's streams are not yet those of this scene."""
        waiting = self.link.status is not None and self._status is None
        return [f"the rig has not laid out scene {seed}"] if waiting else []

    def _is_pictured_anew(self, before: float) -> Callable[[], bool]:
        """Whether a complete set of pictures has come since."""
        return lambda: self._memory.pictured_at > before

    def _has_news(self) -> bool:
        # The same pictures may seem to be a little younger once the clocks are known better.
        instant = self._memory.instant()
        shown = self._shown.get(threading.get_ident(), float("-inf"))
        return instant is not None and instant.at > shown + HALF_FRAME_S

    def _is_sampled(self) -> bool:
        instant = self._memory.instant()
        return instant is None or self._memory.sampled_until() >= instant.at

    def _stale(self) -> str | None:
        """Which stream is too old to move by, in words."""
        limits, ages = self._config.stale_after, self._memory.ages(self._clock())
        allowed = dict.fromkeys(self.info.cameras, limits.cameras) | {"state": limits.state}
        if self._config.episode.needs_sensor:
            allowed["sensor"] = limits.sensor
        for stream, limit in allowed.items():
            if ages[stream] > limit:
                return f"{stream} is {ages[stream]:.2f} s old, at most {limit:g} s"
        return None

    def _tell_holding(self, why: str | None) -> None:
        if why is not None and self._holding is None:
            self._log(f"needle rig: holding: {why}")
        elif why is None and self._holding is not None:
            self._log("needle rig: moving again")
        self._holding = why

    def _observation(self, instant: Instant) -> RobotObservation:
        state = instant.state
        with self._counting:
            step = self._steps - sum(time > instant.at for time in self._acted)
        return RobotObservation(
            images=instant.images,
            state=np.array([*state.pose, *state.joints], np.float32),
            control_step=step,
            captured_at=instant.at,
            sensors={SENSOR: instant.window} if len(instant.window) else {},
        )
