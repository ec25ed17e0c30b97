"""The operator is asked once, answers in a line, and nobody waits for him."""

from __future__ import annotations

import os
import pty
from collections.abc import Iterator
from typing import IO

import pytest

from clients.operator import TerminalOperator


@pytest.fixture
def keyboard() -> Iterator[tuple[int, IO[str]]]:
    """(where one types, what the program reads): a terminal's two ends."""
    ours, theirs = pty.openpty()
    with open(theirs) as stream:
        yield ours, stream
    os.close(ours)


def test_the_question_is_shown_once_and_the_answer_found_when_it_is_there(keyboard):
    typing, stream = keyboard
    shown: list[str] = []
    operator = TerminalOperator(shown.append, stream)
    assert [operator.ask("go on?") for _ in range(3)] == [None] * 3
    assert shown == ["go on? [y/n]"]
    os.write(typing, b"y\n")
    assert operator.ask("go on?") is True
    assert operator.ask("go on?") is None
    assert shown == ["go on? [y/n]"] * 2
    os.write(typing, b"No\n")
    assert operator.ask("go on?") is False


def test_what_was_typed_before_the_question_is_no_answer(keyboard):
    typing, stream = keyboard
    operator = TerminalOperator(lambda line: None, stream)
    os.write(typing, b"y\n")
    assert operator.ask("go on?") is None


def test_anything_else_is_asked_for_again(keyboard):
    typing, stream = keyboard
    shown: list[str] = []
    operator = TerminalOperator(shown.append, stream)
    operator.ask("go on?")
    os.write(typing, b"perhaps\ny\n")
    assert operator.ask("go on?") is True
    assert shown[-1] == "y to go on, n to end the episode"


def test_the_end_of_the_input_is_a_no():
    reading, writing = os.pipe()
    os.close(writing)
    with open(reading) as stream:
        assert TerminalOperator(lambda line: None, stream).ask("go on?") is False
