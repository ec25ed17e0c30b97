"""A recorded episode as a robot: it shows what was seen, and notes what it is told to do instead of doing it."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from clients.lerobot_v3 import LeRobotDataset, decode_rgb
from clients.lerobot_v3.streams import SensorFacts
from clients.robots.base import RobotInfo, RobotObservation
from policy.spec import PolicySpec


class ReplayRobot:
    """Time is the recording's: every command given, of whatever kind, is one recorded control period.

    Args:
        dataset: the recording, or any LeRobotDataset v3.0.
        number: of the episode.
        spec: of the policy; says what an action is where the dataset does not.
        clock: monotonic seconds.

    Raises:
        UsageError: the episode's files are damaged.
    """

    def __init__(
        self,
        dataset: LeRobotDataset,
        number: int,
        spec: PolicySpec,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        facts, told = dataset.facts, dataset.facts.free
        self._clock = clock
        self._episode = dataset.episode(number)
        self._every = facts.actions_per_frame
        self._sensors = SensorFacts.all_from(told)
        self.recorded = self._episode.action.reshape(-1, facts.action_dim)  # float32 [N, A]
        self.recorded_held = np.zeros(len(self.recorded), bool)
        for first, count in self._episode.extra.get("held") or []:
            self.recorded_held[first : first + count] = True
        kind = told.get("action_kind", spec.action.kind)
        self.info = RobotInfo(
            name="replay",
            task=str(self._episode.extra.get("task") or self._episode.task),
            cameras=tuple(facts.cameras),
            state_names=tuple(facts.state_names),
            action_names=tuple(facts.action_names),
            action_kind=kind,
            control_rate_hz=facts.control_rate_hz,
            instruction=self._episode.task,
            # Of a robot that is told where to be, the first recorded target is the best guess at where it is.
            resting_command=np.asarray(
                self._episode.extra.get("resting_command")
                or told.get("resting_command")  # of older recordings, once for all episodes
                or (self.recorded[0] if kind == "absolute" else np.zeros(facts.action_dim)),
                np.float32,
            ),
            kept_on_hold=tuple(told.get("kept_on_hold", ())),
            sensors=tuple(self._sensors),
            may_be_silent=tuple(self._sensors),  # whether the robot moved on without is in the recording
        )
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Back to the recording's beginning."""
        self.given: list[np.ndarray] = []  # commands, one a period
        self.given_held: list[bool] = []
        self._acted = [0]  # actions executed before each period
        self._began: float | None = None

    def observe(self) -> RobotObservation | None:
        """The newest frame that had been recorded by this period."""
        frame = min(len(self.given), len(self.recorded) - 1) // self._every
        if self._began is None:
            self._began = self._clock()
        episode = self._episode
        return RobotObservation(
            images={name: decode_rgb(files[frame]) for name, files in episode.images.items()},
            state=episode.state[frame],
            control_step=self._acted[frame * self._every],
            captured_at=self._began + frame * self._every / self.info.control_rate_hz,
            sensors={
                name: stream.window(frame, self._sensors[name]) for name, stream in episode.sensors.items()
            },
        )

    def act(self, action: np.ndarray) -> None:
        """Note an action; a control step."""
        self._note(action, held=False)

    def hold(self, command: np.ndarray) -> None:
        """Note that the receiver holds."""
        self._note(command, held=True)

    @property
    def done(self) -> bool:
        """The recording is over."""
        return len(self.given) >= len(self.recorded)

    @property
    def success(self) -> bool:
        """The recorded episode's."""
        return bool(self._episode.extra.get("success"))

    def close(self) -> None:
        """Nothing to release."""

    def _note(self, command: np.ndarray, *, held: bool) -> None:
        if self.done:  # a robot left holding at the end
            return
        self.given.append(np.array(command, np.float32))
        self.given_held.append(held)
        self._acted.append(self._acted[-1] + (not held))
