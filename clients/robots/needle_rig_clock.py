"""How a sender's clock relates to ours: the smallest difference ever seen, since messages are only ever late."""

from __future__ import annotations

from collections import deque

# Clocks drift apart no faster than this, seconds per second: how fast an offset may rise. Quartz is good to 100 ppm.
DRIFT = 1e-4
# A message further off than this is late or wrong, or the sender's clock was set.
STEP_S = 0.5
# So many in a row agree before a clock is known, or believed to have been set.
AGREEING = 5


class ClockOffset:
    """Local time minus the sender's, for one stream.

    The estimate is the smallest `received - sent`, so it holds the shortest way's latency as well, which nothing on
    one side can tell from an offset. A difference that has grown is lateness, however many messages agree on it and
    however slowly it came: else a late message would seem fresh. A sender's clock that was set back looks the same
    and is refused until `learn_anew`; one that was set forward is believed after a few messages. A single absurd
    timestamp moves nothing.
    """

    def __init__(self) -> None:
        self.offset: float | None = None  # seconds to add to a sender's time; None before the first message
        self.steps = 0  # how often the sender's clock was set
        self._heard = 0.0  # local time of the newest message that was believed
        self._agreed = 0  # messages that the offset rests on
        self._strays: deque[float] = deque(maxlen=AGREEING)

    @property
    def known(self) -> bool:
        """Whether enough messages agree; before that, as many others can outvote them, also by being later."""
        return self._agreed >= AGREEING

    def learn_anew(self) -> None:
        """Let the next message say what the offset is, also where that is later than before."""
        self._agreed = 0
        self._strays.clear()

    def add(self, sent: float, received: float) -> bool:
        """Learn from a message; False where it is so late or its time so far off that it must not be used."""
        difference = received - sent
        if self.offset is None or not self._agreed:
            self.offset = difference
        elif abs(difference - self.offset) <= STEP_S:
            self.offset = min(difference, self.offset + DRIFT * (received - self._heard))
        elif self._is_set(difference, self.offset):
            self.offset = difference
            self.steps += 1
            self._agreed = AGREEING
        else:
            return False
        self._agreed += 1
        self._heard = received
        self._strays.clear()
        return True

    def local(self, sender_time: float) -> float:
        """A time of the sender's on our clock."""
        assert self.offset is not None
        return sender_time + self.offset

    def _is_set(self, difference: float, offset: float) -> bool:
        """Whether the clock has been set: several differences in a row agree, and they cannot be mere lateness."""
        if self._strays and abs(difference - self._strays[-1]) > STEP_S:
            self._strays.clear()
        self._strays.append(difference)
        late = difference > offset and self.known
        return len(self._strays) == AGREEING and not late
