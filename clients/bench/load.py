"""One client's load: calls back to back, or at a rate, each with its latency."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from policy.errors import TinyVLAError


@dataclass
class Samples:
    """What one client saw."""

    latencies_ms: list[float] = field(default_factory=list)  # of calls that were answered with actions
    errors: Counter[str] = field(default_factory=Counter)  # code -> calls
    in_time: int = 0  # of the answered calls, those before the end


def run_load(
    call: Callable[[], None],
    starts: float,
    ends: float,
    rate_hz: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Samples:
    """Call from `starts` until `ends`, seconds of `clock`.

    At a rate, the latency counts from when a call was due, not from when it could be made: a server that stalls makes
    the calls after that late as well, and leaving their wait out would flatter it ("coordinated omission"). So every
    call that was due before the end is made, after it if need be; those for which a time as long again was not enough
    are counted as `not_made`.

    Raises:
        TinyVLAError: never; a refusal is counted under its code.
    """
    samples = Samples()
    gives_up = ends + (ends - starts)
    for number in itertools.count():
        due = starts + number / rate_hz if rate_hz else max(starts, clock())
        if due >= ends:
            break
        early = due - clock()
        if early > 0:
            sleep(early)
        if clock() >= gives_up:
            samples.errors["not_made"] += 1
            continue
        try:
            call()
        except TinyVLAError as error:
            samples.errors[error.code] += 1
        except ConnectionError:
            samples.errors["no_answer"] += 1
        else:
            answered = clock()
            samples.latencies_ms.append((answered - due) * 1e3)
            samples.in_time += answered <= ends
    return samples
