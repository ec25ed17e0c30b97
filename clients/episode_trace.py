"""What happened in one episode, in bounded memory: every control step, every request, a few camera frames."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

import numpy as np

from clients.measurements import Measurements

# Control steps and requests kept for the picture and the smoothness figures: 10 minutes at 80 Hz.
MAX_STEPS = 48_000
MAX_REQUESTS = 4_096
# Camera frames kept; when full every other one is dropped, so they stay spread over the episode.
MAX_FRAMES = 48
# Of the longer side, at most: they are drawn small, and may come in full HD.
FRAME_SIDE = 320  # pixels


@dataclass(frozen=True)
class StepRecord:
    """One control period."""

    at: float  # monotonic seconds
    command: np.ndarray | None  # float32 [A]; None when the robot held
    step: int  # control step executed, or the one it was held before
    chunk_seq: int  # -1 when the robot held
    seam: bool
    contiguous: bool  # the period before was executed, not held
    sent: np.ndarray  # float32 [A], what the robot was given, holding or not


@dataclass(frozen=True)
class RequestRecord:
    """One request, answered or not."""

    seq: int
    obs_step: int
    captured_at: float
    sent_at: float
    ended_at: float
    outcome: str  # a `Verdict`, `unusable` or an error code
    actions: np.ndarray | None  # float32 [H, A]
    consumed: int  # control steps executed between observation and splice
    prefix: int  # committed actions sent along


STAGES = (
    "capture_ms",  # waiting for a complete observation
    "round_trip_ms",  # request sent to reply read
    "server_decode_ms",
    "server_queue_ms",
    "server_encode_ms",
    "server_sample_ms",
    "server_total_ms",
    "transport_ms",  # round trip less the server's total
    "reaction_ms",  # capture to the first executed action that rests on it
    "control_jitter_ms",  # how late control ticks began
    "control_work_ms",  # what a control tick took
    "consumed_steps",  # control steps executed while a request was under way
    "uncertainty",  # of the chunks, see `clients.uncertainty`; only where several samples were drawn
)


@dataclass
class EpisodeTrace:
    """Filled by the control and the inference side; each list has a single writer."""

    steps: deque[StepRecord] = field(default_factory=lambda: deque(maxlen=MAX_STEPS))
    requests: deque[RequestRecord] = field(default_factory=lambda: deque(maxlen=MAX_REQUESTS))
    frames: list[tuple[float, np.ndarray]] = field(default_factory=list)  # (captured_at, uint8 [H, W, 3])
    stages: dict[str, Measurements] = field(default_factory=lambda: {name: Measurements() for name in STAGES})
    outcomes: dict[str, int] = field(default_factory=dict)  # request outcome -> count
    policies: Counter[str] = field(default_factory=Counter)  # label -> chunks of its that joined the plan
    waited: int = 0  # control periods held before the first chunk came, or between the chunks of `sync`
    held: int = 0  # control periods held for any other reason
    stale: int = 0  # control periods that rested on something too old, however much of it was
    executed: int = 0
    real_time_priority: bool = False  # whether the system let the control thread go before all others
    _frame_stride: int = 1
    _frames_seen: int = 0

    def add_request(self, record: RequestRecord) -> None:
        """A request ended."""
        self.requests.append(record)
        self.outcomes[record.outcome] = self.outcomes.get(record.outcome, 0) + 1

    def add_frame(self, at: float, image: np.ndarray) -> None:
        """Keep every n-th pixel of a camera frame, thinning the older frames when there are too many."""
        if self._frames_seen % self._frame_stride == 0:
            step = -(-max(image.shape[:2]) // FRAME_SIDE)
            self.frames.append((at, image[::step, ::step].copy()))
            if len(self.frames) > MAX_FRAMES:
                self.frames = self.frames[::2]
                self._frame_stride *= 2
        self._frames_seen += 1
