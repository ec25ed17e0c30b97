"""Which request runs next, with whom, and which is refused: the queue as plain data, without a clock."""

from __future__ import annotations

import math
from collections.abc import Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field

from policy.errors import TinyVLAError
from service.wire.messages import ActReply, ActRequest


@dataclass(frozen=True, eq=False)
class Ticket:
    """One request on its way through the engine; times are seconds of one monotonic clock."""

    request: ActRequest
    arrived: float  # at the door
    queued: float  # at the engine
    decode_ms: float
    key: Hashable  # tickets of equal keys may share a run
    future: Future[ActReply] = field(default_factory=Future)

    @property
    def deadline(self) -> float:
        """When the answer is of no use any more; infinite when the request did not say."""
        allowed = self.request.deadline_ms
        return math.inf if allowed is None else self.arrived + allowed / 1e3

    def is_newer_than(self, other: Ticket) -> bool:
        """By the client's own count where both have one: decoding may let requests overtake each other."""
        mine, others = self.request.seq, other.request.seq
        if mine is not None and others is not None:
            return mine >= others
        return self.arrived >= other.arrived


@dataclass(frozen=True)
class Taken:
    """What leaves the queue at once."""

    batch: list[Ticket]  # may share one run; empty when nothing waits
    expired: list[Ticket]  # their deadline passed while they waited


class RequestQueue:
    """Bounded, first come first served, one place per session. Not thread-safe: the engine locks it."""

    def __init__(self, capacity: int, max_batch: int) -> None:
        self._capacity, self._max_batch = capacity, max_batch
        self._waiting: dict[
            Hashable, Ticket
        ] = {}  # session, or the ticket itself where it has none; in order

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, ticket: Ticket) -> Ticket | None:
        """Queue a ticket; returns the one of its session that is superseded thereby, which may be itself.

        A newer request takes the older one's place in the line: a client that sends faster than it is
        served would otherwise never get to the front.

        Raises:
            TinyVLAError: `overloaded` when the queue is full.
        """
        place: Hashable = (
            ("session", ticket.request.session) if ticket.request.session is not None else ticket
        )
        older = self._waiting.get(place)
        if older is not None and not ticket.is_newer_than(older):
            return ticket
        if older is None and len(self._waiting) >= self._capacity:
            raise TinyVLAError(
                "overloaded", f"{self._capacity} requests are waiting already; try again in a moment"
            )
        self._waiting[place] = ticket
        return older

    def drop_session(self, session: str) -> Ticket | None:
        """Take a session's waiting request out, if there is one."""
        return self._waiting.pop(("session", session), None)

    def take(self, now: float) -> Taken:
        """The longest-waiting request and whatever waits that can share its run, up to `max_batch`."""
        expired: list[Ticket] = []
        batch: list[Ticket] = []
        for place, ticket in list(self._waiting.items()):
            if ticket.deadline <= now:
                expired.append(ticket)
            elif len(batch) < self._max_batch and (not batch or ticket.key == batch[0].key):
                batch.append(ticket)
            else:
                continue
            del self._waiting[place]
        return Taken(batch, expired)
