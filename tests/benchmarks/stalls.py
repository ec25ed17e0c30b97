"""How long this machine stands still by itself: one sleeper per core that goes before every ordinary thread.

    python -m tests.benchmarks.stalls --minutes 10

Run it beside a benchmark of control: no program can be on time while the machine does not run. Each sleeper wakes
every two milliseconds and does nothing else; what it was late beyond the limit is printed with the time of day, and at
the end how often and how long. It needs the right to SCHED_FIFO.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time

from clients.priority import run_at_once

_PERIOD_S = 0.002


def watch(core: int, minutes: float, limit_ms: float) -> None:
    """Print what one core was late, and the sum of it at the end."""
    os.sched_setaffinity(0, {core})
    if not run_at_once():
        sys.exit("the system does not grant SCHED_FIFO: what is late here may be other programs' doing")
    late: list[float] = []
    ends = time.monotonic() + 60 * minutes
    while (now := time.monotonic()) < ends:
        time.sleep(_PERIOD_S)
        late.append((time.monotonic() - now - _PERIOD_S) * 1e3)
        if late[-1] > limit_ms:
            print(f"{time.strftime('%H:%M:%S')} core {core}: {late[-1]:.1f} ms late", flush=True)
    late.sort()
    beyond = sum(lateness > limit_ms for lateness in late)
    print(
        f"core {core}: {len(late)} wake-ups, p99 {late[int(0.99 * len(late))]:.2f} ms late, max {late[-1]:.1f} ms, "
        f"{beyond} beyond {limit_ms:g} ms"
    )


def main() -> None:
    """Watch every core that this process may use."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--limit-ms", type=float, default=12.5, help="a period of 80 Hz")
    asked = parser.parse_args()
    watchers = [
        multiprocessing.Process(target=watch, args=(core, asked.minutes, asked.limit_ms))
        for core in sorted(os.sched_getaffinity(0))
    ]
    for watcher in watchers:
        watcher.start()
    for watcher in watchers:
        watcher.join()
    sys.exit(max(watcher.exitcode or 0 for watcher in watchers))


if __name__ == "__main__":
    main()
