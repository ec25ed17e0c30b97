"""What sessions have seen: visual and instruction features, to be reused while state and sensors run fresh."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

MAX_BYTES = 64 * 2**20  # of one policy's features; those of the session that was away longest go first
_OVERHEAD = 512  # bytes of a session's entry besides


@dataclass(frozen=True)
class Seen:
    """Features of one observation."""

    features: np.ndarray  # float32 [F]
    instruction: str  # it steers the vision network, so features of another text are of no use
    arrived: float  # of the observation's request, on the engine's clock


@dataclass
class Slot:
    """A session's place; replaced, and not emptied, when the session is forgotten."""

    seen: Seen | None = None
    not_before: float = (
        -math.inf
    )  # when its session started over: what arrived earlier is of the episode before

    def age_s(self, instruction: str, arrived: float) -> float | None:
        """How much older than a request that arrived at `arrived` its features are; None without usable ones."""
        if self.seen is None or self.seen.instruction != instruction:
            return None
        return max(0.0, arrived - self.seen.arrived)


class FeatureCache:
    """Bounded, as features of one policy are all of one size; every method may be called from any thread.

    A run takes its session's slot first and fills it afterwards: a session that started over meanwhile has another
    slot by then, which takes nothing that arrived earlier, so that features of the episode before can never come back.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._slots: OrderedDict[str, Slot] = OrderedDict()  # least recently used first

    def slot(self, session: str) -> Slot:
        """The session's place, made if need be."""
        with self._lock:
            slot = self._slots.setdefault(session, Slot())
            self._slots.move_to_end(session)
            return slot

    def fill(self, slot: Slot, seen: Seen) -> None:
        """Keep what was seen, as long as the slot is still a session's and there is room."""
        if seen.arrived < slot.not_before:
            return
        slot.seen = Seen(
            np.array(seen.features), seen.instruction, seen.arrived
        )  # not a view of a whole batch
        room_for = max(1, self._max_bytes // (_OVERHEAD + seen.features.nbytes))
        with self._lock:
            while len(self._slots) > room_for:
                self._slots.popitem(last=False)

    def forget(self, session: str, now: float) -> None:
        """The session starts over; requests of before `now`, on the engine's clock, may still come."""
        with self._lock:
            if session in self._slots:
                self._slots[session] = Slot(not_before=now)

    def clear(self) -> None:
        """All sessions start over."""
        with self._lock:
            self._slots.clear()
