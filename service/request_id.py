"""One id for a request from door to engine to reply: whoever handles it, on whichever thread, logs under the same.

Over HTTP it travels as `X-Request-Id`, over ZeroMQ as `request_id` in the header; a client that names none is told the
one that was made.
"""

from __future__ import annotations

import itertools
import re
import secrets
import time
from contextvars import ContextVar, Token
from typing import NamedTuple

HEADER = b"x-request-id"
# Whatever else a client sends ends up in no log line and no header.
_ALLOWED = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")


class Mark(NamedTuple):
    """A request, as the log knows it."""

    id: str
    began: float  # seconds of the monotonic clock, at the door


_current: ContextVar[Mark | None] = ContextVar("request", default=None)
_process = secrets.token_hex(4)  # two servers' ids differ
_count = itertools.count(1)


def begin(given: object = None) -> Mark:
    """A request has arrived; `given` is the id that its client chose, which is kept if it is a fit one."""
    fit = isinstance(given, str) and _ALLOWED.fullmatch(given)
    mark = Mark(str(given) if fit else f"{_process}-{next(_count):x}", time.monotonic())
    _current.set(mark)
    return mark


def current() -> Mark | None:
    """The request that this thread or task handles, if any."""
    return _current.get()


def resume(mark: Mark | None) -> None:
    """This thread goes on with a request until it is told of another one."""
    _current.set(mark)


class handling:
    """Within the block, this thread handles that request."""

    __slots__ = ("_mark", "_token")

    def __init__(self, mark: Mark | None) -> None:
        self._mark = mark

    def __enter__(self) -> None:
        self._token: Token[Mark | None] = _current.set(self._mark)

    def __exit__(self, *raised: object) -> None:
        _current.reset(self._token)
