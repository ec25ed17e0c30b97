"""What the receiver asks of the scheduler, and what becomes of everybody else."""

from __future__ import annotations

import os
import sys
import threading

import pytest

from clients import priority

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux's scheduler")


def _in_a_thread(body):
    """What `body` returns on a thread of its own, whose priority ends with it."""
    told = []
    thread = threading.Thread(target=lambda: told.append(body()))
    thread.start()
    thread.join()
    return told[0]


def test_a_thread_that_was_granted_it_runs_first_and_those_it_starts_do_not():
    def body():
        granted = priority.run_at_once()
        mine = os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK
        return granted, mine, _in_a_thread(lambda: os.sched_getscheduler(0))

    granted, mine, started = _in_a_thread(body)

    assert mine == (os.SCHED_FIFO if granted else os.SCHED_OTHER)
    assert started == os.SCHED_OTHER


def test_a_refusal_changes_nothing(monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    monkeypatch.setattr(os, "setpriority", refuse)
    before = os.getpriority(os.PRIO_PROCESS, 0)

    assert not priority.run_at_once()
    with priority.ahead_of_others():
        assert os.getpriority(os.PRIO_PROCESS, 0) == before


def test_niceness_is_inherited_within_the_block_and_given_back_after_it():
    def niceness():
        return os.getpriority(os.PRIO_PROCESS, 0)

    def body():
        before = niceness()
        try:
            os.setpriority(os.PRIO_PROCESS, 0, min(before, priority.NICENESS))
            allowed = True
        except PermissionError:
            allowed = False
        os.setpriority(os.PRIO_PROCESS, 0, before)
        with priority.ahead_of_others():
            within = _in_a_thread(niceness)
        return before, allowed, within, niceness()

    before, allowed, within, after = _in_a_thread(body)

    assert within == (min(before, priority.NICENESS) if allowed else before)
    assert after == before
