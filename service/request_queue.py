"""Which request runs next, with whom, and which is refused: the queue as plain data, without a clock.

Every client has a lane. Lanes take turns, and when the queue is full the longest one gives way, so that a client that
sends fast makes its own requests wait and nobody else's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import NamedTuple

from policy.errors import TinyVLAError
from service.policy_set import Resident
from service.request_id import Mark
from service.wire.messages import ActReply, ActRequest


@dataclass(eq=False, slots=True)
class Ticket:
    """One request on its way through the engine; times are seconds of one monotonic clock."""

    request: ActRequest
    arrived: float  # at the door
    queued: float  # at the engine
    decode_ms: float
    key: Hashable  # tickets of equal keys may share a run
    future: Future[ActReply] = field(default_factory=Future)
    resident: Resident | None = (
        None  # the policy that was meant when it was queued, whatever is active when it runs
    )
    client: Hashable = None  # who sent it, as far as its door can tell
    mark: Mark | None = None  # under which the log knows it

    @property
    def deadline(self) -> float:
        """When the answer is of no use any more; infinite when the request did not say."""
        allowed = self.request.deadline_ms
        return math.inf if allowed is None else self.arrived + allowed / 1e3

    @property
    def lane(self) -> Hashable:
        """Whose turn it takes: its session's with its policy, otherwise its client's."""
        if self.request.session is None:
            return ("client", self.client)
        return (
            "session",
            self.request.session,
            None if self.resident is None else self.resident.policy.label,
        )

    def is_newer_than(self, other: Ticket) -> bool:
        """By the client's own count where both have one: decoding may let requests overtake each other."""
        mine, others = self.request.seq, other.request.seq
        if mine is not None and others is not None:
            return mine >= others
        return self.arrived >= other.arrived


class Displaced(NamedTuple):
    """Whom a ticket's coming sends away."""

    superseded: Ticket | None = None  # of its own session; may be the ticket itself
    evicted: Ticket | None = None  # of the longest lane, to make room


class Taken(NamedTuple):
    """What leaves the queue at once."""

    batch: list[Ticket]  # may share one run; empty when nothing waits
    expired: list[Ticket]  # their deadline passed while they waited


class RequestQueue:
    """Bounded; lanes take turns; a session has one place. Not thread-safe: the engine locks it."""

    def __init__(self, capacity: int, max_batch: int) -> None:
        self._capacity, self._max_batch = capacity, max_batch
        self._lanes: dict[Hashable, list[Ticket]] = {}  # none is empty; the next one's turn first

    def __len__(self) -> int:
        return sum(map(len, self._lanes.values()))

    def put(self, ticket: Ticket) -> Displaced:
        """Queue a ticket.

        A newer request of a session takes the older one's place: a client that sends faster than it is served would
        otherwise never get to the front. A full queue takes in who has less waiting than others.

        Raises:
            TinyVLAError: `overloaded` when the queue is full and nobody has more waiting than this client.
        """
        waiting = self._lanes.get(ticket.lane, [])
        if ticket.request.session is not None and waiting:
            older = waiting[0]
            # Who has left cannot be the newer one: a robot that starts again counts from 0.
            if not ticket.is_newer_than(older) and not older.future.cancelled():
                return Displaced(superseded=ticket)
            waiting[0] = ticket
            return Displaced(superseded=older)
        evicted = self._make_room(len(waiting)) if len(self) >= self._capacity else None
        self._lanes.setdefault(ticket.lane, []).append(ticket)
        return Displaced(evicted=evicted)

    def drop_session(self, session: str) -> list[Ticket]:
        """Take out what waits for a session."""
        lanes = [lane for lane in self._lanes if isinstance(lane, tuple) and lane[:2] == ("session", session)]
        return [ticket for lane in lanes for ticket in self._lanes.pop(lane)]

    def take(self, now: float) -> Taken:
        """A batch that may share one run: the next lane's first, then one of each lane in turn, again and again."""
        if (
            len(self._lanes) == 1
        ):  # the usual case, and the one in which every microsecond is somebody's latency
            [waiting] = self._lanes.values()
            if len(waiting) == 1 and waiting[0].deadline > now:
                self._lanes = {}
                return Taken(waiting, [])
        expired = [ticket for ticket in self._all() if ticket.deadline <= now]
        self._keep(lambda ticket: ticket.deadline > now and not ticket.future.cancelled())
        batch: list[Ticket] = []
        if not self._lanes:
            return Taken(batch, expired)
        key = next(self._all()).key
        had_their_turn: list[Hashable] = []
        found = True
        while found and len(batch) < self._max_batch:
            found = False
            for lane, waiting in self._lanes.items():
                place = next((i for i, ticket in enumerate(waiting) if ticket.key == key), None)
                if place is None or len(batch) == self._max_batch:
                    continue
                # Whose first one is passed over, because it fits no one here, does not lose its turn.
                if place == 0 and lane not in had_their_turn:
                    had_their_turn.append(lane)
                batch.append(waiting.pop(place))
                found = True
        for lane in had_their_turn:
            self._lanes[lane] = self._lanes.pop(lane)
        self._keep(lambda ticket: True)
        return Taken(batch, expired)

    def wait_s(self, now: float, max_wait_s: float, free_at: float = -math.inf) -> float:
        """How long the next batch may wait for company; at most 0 when it should run.

        A batch that is full does not wait, nor one that would come closer to a deadline than the wait is long. The
        wait counts from `free_at`, when the runtime last became free, where that is later than the first one's coming:
        robots that were just answered ask again in a moment, and would otherwise wait for a run of the others first.
        """
        if not self._lanes:
            return 0.0
        key = next(self._all()).key
        fitting = [ticket for ticket in self._all() if ticket.key == key]
        if len(fitting) >= self._max_batch:
            return 0.0
        waited_enough = max(free_at, min(ticket.queued for ticket in fitting)) + max_wait_s
        hurry = min(ticket.deadline for ticket in fitting) - max_wait_s
        return min(waited_enough, hurry) - now

    def _all(self) -> Iterator[Ticket]:
        return (ticket for waiting in self._lanes.values() for ticket in waiting)

    def _keep(self, wanted: Callable[[Ticket], bool]) -> None:
        kept = {lane: [t for t in waiting if wanted(t)] for lane, waiting in self._lanes.items()}
        self._lanes = {lane: waiting for lane, waiting in kept.items() if waiting}

    def _make_room(self, mine: int) -> Ticket | None:
        """Drop what nobody waits for any more; otherwise the newest of the longest lane."""
        self._keep(lambda ticket: not ticket.future.cancelled())
        if len(self) < self._capacity:
            return None
        longest = max(self._lanes.values(), key=len)
        if len(longest) <= mine + 1:
            raise self.overload()
        return longest.pop()

    def overload(self) -> TinyVLAError:
        """What who gets no place, or loses it, is told."""
        return TinyVLAError(
            "overloaded", f"{self._capacity} requests are waiting already; try again in a moment"
        )
