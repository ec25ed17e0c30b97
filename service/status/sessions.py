"""What each robot saw and was told last, kept only while somebody looks."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from service.status.frames import Frame, reduce_frame
from service.wire.messages import ActReply, ActRequest

MAX_SESSIONS = 16
MAX_CAMERAS = 6  # of one session
LOOK_S = 10.0  # a look keeps the record going for so long; the page looks every second
SHOWN_S = 15.0  # an episode that ended so long ago is no session any more
SILENT_S = 3.0  # robots ask several times a second
FRAME_EVERY_S = 0.4  # copying each image of a robot that asks at 50 Hz would be wasted on a page
_RATE_OVER = 20  # replies


@dataclass(frozen=True)
class Seen:
    """A session's newest request and reply."""

    session: str | None  # None: requests that name no session, taken together
    at: float  # when the reply was ready, seconds of the monotonic clock
    instruction: str
    state: np.ndarray  # float32 [D]
    prefix: int  # actions that were committed already
    frames: Mapping[str, Frame]  # camera name -> what it showed, made smaller
    reply: ActReply


@dataclass
class _Session:
    seen: Seen
    framed_at: float
    replied: deque[float] = field(default_factory=lambda: deque(maxlen=_RATE_OVER))


class SessionWatch:
    """`saw` on the engine's thread, `look` on any other. Costs one comparison while nobody looks.

    Memory is bounded: so many sessions, so many cameras, frames made small before they are kept.
    """

    def __init__(self) -> None:
        self._until = -np.inf
        self._lock = threading.Lock()
        self._sessions: OrderedDict[str | None, _Session] = OrderedDict()  # longest silent first

    def saw(self, request: ActRequest, reply: ActReply, now: float) -> None:
        """A request was answered. Times are seconds of the monotonic clock."""
        if now > self._until:
            if self._sessions:
                with self._lock:
                    self._sessions.clear()
            return
        key = request.session
        with self._lock:
            older = self._sessions.get(key)
        observation, prefix = request.observation, request.options.prefix
        framed_at, frames = now, None
        if older is not None and now - older.framed_at < FRAME_EVERY_S:
            framed_at, frames = older.framed_at, older.seen.frames
        if frames is None:
            kept = sorted(observation.images.items())[:MAX_CAMERAS]
            frames = {name: reduce_frame(image) for name, image in kept}
        seen = Seen(
            session=key,
            at=now,
            instruction=observation.instruction,
            state=observation.state.copy(),  # may be a view of a whole message
            prefix=0 if prefix is None else len(prefix),
            frames=frames,
            reply=reply,
        )
        with self._lock:
            session = self._sessions.pop(key, None) or _Session(seen, framed_at)
            session.seen, session.framed_at = seen, framed_at
            session.replied.append(now)
            self._sessions[key] = session
            if len(self._sessions) > MAX_SESSIONS:
                self._sessions.popitem(last=False)

    def look(self, now: float) -> list[tuple[Seen, float | None]]:
        """Sessions with their replies per second, by name, silent ones last; begins to watch, or goes on."""
        self._until = now + LOOK_S
        with self._lock:
            live = [one for one in self._sessions.values() if now - one.seen.at <= SHOWN_S]
            shown = [(session.seen, _rate(session.replied)) for session in live]
        return sorted(shown, key=lambda pair: (now - pair[0].at > SILENT_S, pair[0].session or ""))


def _rate(times: deque[float]) -> float | None:
    """Replies per second; None where there are too few to tell."""
    return (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 and times[-1] > times[0] else None
