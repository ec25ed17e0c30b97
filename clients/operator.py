"""A question to the person at the terminal, without ever blocking the thread that asks."""

from __future__ import annotations

import contextlib
import select
import sys
from collections.abc import Callable
from typing import IO, Protocol


class Operator(Protocol):
    """Somebody who decides."""

    def ask(self, question: str) -> bool | None:
        """Yes or no; None until there is an answer. Called again and again with the same question until then."""
        ...


class TerminalOperator:
    """Shows a question once and looks for an answer at every call.

    Args:
        show: prints a line.
        stream: where answers are typed, a line each.
    """

    def __init__(self, show: Callable[[str], None], stream: IO[str] | None = None) -> None:
        self._show = show
        self._stream = stream or sys.stdin
        self._asked: str | None = None

    def ask(self, question: str) -> bool | None:
        """See `Operator`."""
        if question != self._asked:
            self._asked = question
            self._forget_typed()
            self._show(f"{question} [y/n]")
        while self._typed():
            line = self._stream.readline()
            answer = line.strip().lower()
            if answer in ("y", "yes", "n", "no") or not line:  # the end of the input is a no
                self._asked = None
                return answer.startswith("y")
            self._show("y to go on, n to end the episode")
        return None

    def _typed(self) -> bool:
        return bool(select.select([self._stream], [], [], 0)[0])

    def _forget_typed(self) -> None:
        """What was typed before the question was shown is no answer to it."""
        import termios

        with contextlib.suppress(termios.error, OSError, ValueError):
            termios.tcflush(self._stream.fileno(), termios.TCIFLUSH)
