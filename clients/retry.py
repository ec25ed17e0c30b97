"""Which failed calls are worth another try, and after what pause: exponential backoff with jitter.

No call of the clients changes anything on the server but which request of a session is the newest, so a call
whose connection broke may be sent again. A refusal is repeated only where it speaks of the server's state and not
of the request: a superseded or expired observation stays what it is, and so does one that breaks the contract.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from policy.errors import TinyVLAError

PASSING = frozenset({"overloaded", "not_ready"})


@dataclass(frozen=True)
class Retry:
    """When to try again; the pauses grow by two and are drawn from the upper half of their length."""

    attempts: int = 3  # in all; 1 never repeats
    first_s: float = 0.05
    most_s: float = 1.0

    def pause(
        self, failed: int, error: Exception, left_s: float, draw: Callable[[], float] = random.random
    ) -> float | None:
        """Seconds to wait before the next attempt, or None to give up.

        Args:
            failed: attempts made so far, at least 1.
            error: what the last one ended with.
            left_s: seconds until the call's own time is up; a pause that reaches beyond it is not worth it.
            draw: uniform in [0, 1), so that many robots do not come back at the same moment.
        """
        if failed >= self.attempts or not is_passing(error):
            return None
        backoff = min(self.most_s, self.first_s * 2 ** (failed - 1)) * (0.5 + draw() / 2)
        asked = error.retry_after_s if isinstance(error, TinyVLAError) else None
        pause = max(backoff, asked or 0.0)
        return pause if pause < left_s else None


def is_passing(error: Exception) -> bool:
    """Whether the same call may well succeed a moment later."""
    return isinstance(error, ConnectionError) or (isinstance(error, TinyVLAError) and error.code in PASSING)


NEVER = Retry(attempts=1)
"""For a control loop, which has a newer observation to send by then."""
