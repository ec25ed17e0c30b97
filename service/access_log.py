"""Every answer is counted and logged here: all of them at debug level, else one line per error with code and id."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass

from policy.errors import TinyVLAError
from service import request_id
from service.metrics import Metrics

log = logging.getLogger(__name__)

# What happens all the time where robots ask faster than they are served, or leave.
_EVERYDAY = ("ok", "superseded", "vanished")
_OVERLOAD = ("overloaded", "deadline_exceeded", "not_ready")
_AT_ONCE, _PER_SECOND = 20.0, 2.0  # lines of one code; a flood of bad requests must not fill a disk


def answered(metrics: Metrics, door: str, code: str, error: TinyVLAError | None = None) -> None:
    """An answer has left: `code` is "ok", "vanished" or the error's. Called where its request is the current one."""
    metrics.answered(door, code)
    _log(door, code, error)


def refused(door: str, error: TinyVLAError) -> None:
    """Something else than an observation was refused: logged, and not counted among the answers."""
    _log(door, error.code, error)


def _log(door: str, code: str, error: TinyVLAError | None) -> None:
    if code == "internal":
        return  # logged where it was caught, with its traceback
    level = logging.DEBUG if code in _EVERYDAY else logging.WARNING if code in _OVERLOAD else logging.INFO
    if not log.isEnabledFor(level):
        return
    now = time.monotonic()
    left_out = 0
    if level > logging.DEBUG:
        allowed = _throttle.ask(code, now)
        if allowed is None:
            return
        left_out = allowed
    mark = request_id.current()
    fields: dict[str, object] = {"code": code, "door": door}
    if mark is not None:
        fields["ms"] = round((now - mark.began) * 1e3, 3)
    if error is not None:
        fields["detail"] = error.detail[:300]
    if left_out:
        fields["not_logged"] = left_out
    log.log(level, "answered" if code == "ok" else "refused", extra={"fields": fields})


@dataclass
class _Bucket:
    """A token bucket of one code."""

    tokens: float = _AT_ONCE
    at: float = 0.0
    left_out: int = 0


class Throttle:
    """So many lines of a code at once, and so many a second from then on. Takes the time: it has no clock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._buckets: dict[str, _Bucket] = {}

    def ask(self, code: str, now: float) -> int | None:
        """How many lines were left out before this one; None when this one is to be left out as well."""
        with self._lock:
            bucket = self._buckets.setdefault(code, _Bucket(at=now))
            bucket.tokens = min(_AT_ONCE, bucket.tokens + (now - bucket.at) * _PER_SECOND)
            bucket.at = now
            if bucket.tokens < 1:
                bucket.left_out += 1
                return None
            bucket.tokens -= 1
            left_out, bucket.left_out = bucket.left_out, 0
            return left_out


_throttle = Throttle()
