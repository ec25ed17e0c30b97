"""The robot before all else that the machine does, where the system grants it.

Linux grants both to root, with CAP_SYS_NICE, or within RLIMIT_RTPRIO and RLIMIT_NICE. Whatever is refused leaves things
as they were.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

FIFO_PRIORITY = 20  # of 99: before every ordinary thread, behind the kernel's own
NICENESS = -10


def run_at_once() -> bool:
    """Let the calling thread run as soon as it wakes (SCHED_FIFO), whatever else is busy; whether that was granted.

    What this thread starts does not inherit it. The kernel keeps a share of every second for ordinary threads, so one
    that never sleeps stops nothing for good.
    """
    if sys.platform != "linux":
        return False
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(FIFO_PRIORITY))
    except OSError:
        return False
    return True


@contextlib.contextmanager
def ahead_of_others() -> Iterator[None]:
    """Within the block the calling thread, and the threads that it starts, are nicer to nobody.

    They share the interpreter's lock with the control thread: one that is made to wait while it holds the lock makes
    control wait as well, whatever its own priority.
    """
    before = os.getpriority(os.PRIO_PROCESS, 0)
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, min(before, NICENESS))
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, before)
