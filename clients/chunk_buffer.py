"""The chunk buffer: which action belongs to the next control step, and how a new chunk is spliced in.

Time here is counted in control steps, and a control step is an action that was really executed: a step
that the robot held through consumes no action. An observation is stamped with the number of control
steps executed before it was captured (`obs_step`), so action `i` of its chunk belongs to control step
`obs_step + i`, however long inference took. No latency is estimated and no clock is read.

Four chunk policies:

- `sync`: execute some actions of a chunk, then hold, observe and wait (the classic blocking loop).
- `receding`: the newest chunk replaces the older one from the next control step on.
- `ensemble`: temporal ensembling; actions of all chunks that cover a step are averaged with weights
  exp(-m i), i = 0 for the oldest (ACT, Zhao et al. 2023, arXiv 2304.13705).
- `rtc`: as `receding`, and each request carries the committed actions as a prefix that the new chunk
  continues (training-time real-time chunking, arXiv 2512.05964).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

ChunkPolicy = Literal["sync", "receding", "ensemble", "rtc"]
CHUNK_POLICIES: tuple[ChunkPolicy, ...] = get_args(ChunkPolicy)
Verdict = Literal["accepted", "late", "spent", "ahead"]

# ACT's weight decay for temporal ensembling; the paper and its code use 0.01.
ENSEMBLE_DECAY = 0.01
# Executed actions kept to fill a prefix whose observation lies some steps back; 4 s at 80 Hz.
HISTORY_STEPS = 320
# Chunks averaged at most by `ensemble`; only reached when inference is nearly as fast as control.
MAX_ENSEMBLE = 64


@dataclass(frozen=True)
class Chunk:
    """A reply, placed on the control-step axis."""

    actions: np.ndarray  # float32 [H, A], physical units
    obs_step: int  # control step that actions[0] belongs to
    seq: int  # order of the observation behind it, increasing
    captured_at: float = 0.0  # monotonic seconds of that observation; carried along, never used here
    uncertainty: float | None = None  # likewise
    prefix: int = 0  # so many of its first actions are not its own but committed before

    @property
    def end_step(self) -> int:
        """First control step after the chunk."""
        return self.obs_step + len(self.actions)


@dataclass(frozen=True)
class PlannedAction:
    """What the next control step should execute."""

    action: np.ndarray  # float32 [A]
    step: int
    chunk: Chunk  # the newest chunk behind the action
    index: int  # its place in that chunk
    seam: bool  # the first of its newest chunk's own actions, after another chunk's


class ChunkBuffer:
    """Chunks of one episode. Not thread-safe: its owner locks around the calls.

    Args:
        policy: one of `CHUNK_POLICIES`.
        execute: actions of a chunk that `sync` executes before it asks for the next; others ignore it.
        decay: `ensemble`'s m.
    """

    def __init__(self, policy: ChunkPolicy, *, execute: int = 16, decay: float = ENSEMBLE_DECAY) -> None:
        if policy not in CHUNK_POLICIES:
            raise ValueError(f"unknown chunk policy {policy!r}; there are: {', '.join(CHUNK_POLICIES)}")
        if execute < 1:
            raise ValueError("execute must be at least 1")
        self.policy = policy
        self.step = 0  # control steps executed so far, which is also the next one's number
        self._execute = execute
        self._decay = decay
        self._live: list[Chunk] = []  # oldest first; one entry unless ensembling
        self._newest_seq = -1
        self._last_own_seq: int | None = None  # chunk whose own action was executed last
        self._history: deque[tuple[int, np.ndarray]] = deque(maxlen=HISTORY_STEPS)

    def offer(self, chunk: Chunk) -> Verdict:
        """Splice a reply in, from the next control step on.

        Returns:
            `accepted`; or, dropped: `late` (its observation is not newer than that of a chunk already
            taken, so duplicates too), `spent` (all its steps have passed), `ahead` (observed at a step
            not yet reached: from another episode).
        """
        if chunk.seq <= self._newest_seq:
            return "late"
        if chunk.obs_step > self.step:
            return "ahead"
        if self.policy == "sync":
            chunk = replace(chunk, actions=chunk.actions[: self._execute])
        if chunk.end_step <= self.step:
            return "spent"
        self._newest_seq = chunk.seq
        self._live = [*self._live, chunk][-MAX_ENSEMBLE:] if self.policy == "ensemble" else [chunk]
        return "accepted"

    def next_action(self) -> PlannedAction | None:
        """What to execute at `step`, or None when starved. Changes nothing; see `executed`."""
        covering = [chunk for chunk in self._live if chunk.end_step > self.step]
        if not covering:
            return None
        newest = covering[-1]
        index = self.step - newest.obs_step
        rows = np.stack([chunk.actions[self.step - chunk.obs_step] for chunk in covering])
        return PlannedAction(
            action=_blend(rows, self._decay),
            step=self.step,
            chunk=newest,
            index=index,
            seam=index >= newest.prefix and self._last_own_seq not in (None, newest.seq),
        )

    def executed(self, planned: PlannedAction, commanded: np.ndarray) -> None:
        """The step was executed with `commanded` (after clamping): count it as consumed."""
        if planned.step != self.step:
            raise ValueError(f"step {planned.step} was executed where step {self.step} was next")
        self._history.append((self.step, np.asarray(commanded, np.float32)))
        if planned.index >= planned.chunk.prefix:
            self._last_own_seq = planned.chunk.seq
        self.step += 1
        self._live = [chunk for chunk in self._live if chunk.end_step > self.step]

    def committed(self, from_step: int, count: int) -> np.ndarray:
        """Up to `count` actions from `from_step` on: those executed since, then those planned. [d, A].

        Shorter where the plan ends; empty where history does not reach back to `from_step`.
        """
        actions = [action for step, action in self._history if step >= from_step]
        if from_step < self.step and len(actions) != self.step - from_step:
            return np.zeros((0, 0), np.float32)
        if self._live:
            newest = self._live[-1]
            actions.extend(newest.actions[max(from_step, self.step) - newest.obs_step :])
        return np.asarray(actions[:count], np.float32) if actions else np.zeros((0, 0), np.float32)

    @property
    def remaining(self) -> int:
        """Control steps that can still be executed without a new chunk."""
        return max((chunk.end_step for chunk in self._live), default=self.step) - self.step

    @property
    def captured_at(self) -> float:
        """When what the newest planned chunk rests on was captured; minus infinity without one."""
        return self._live[-1].captured_at if self._live else float("-inf")

    @property
    def wants_observation(self) -> bool:
        """Whether a new request makes sense now; `sync` asks only when it has run out."""
        return self.policy != "sync" or self.remaining == 0


def _blend(rows: np.ndarray, decay: float) -> np.ndarray:
    """Weighted mean of [n, A], oldest first, with ACT's weights; one row comes back unchanged."""
    if len(rows) == 1:
        return np.asarray(rows[0], np.float32)
    weights = np.exp(-decay * np.arange(len(rows)))
    return np.asarray((weights / weights.sum()) @ rows, np.float32)
