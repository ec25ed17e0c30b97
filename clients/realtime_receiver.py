"""Run a policy on a robot in real time: `python clients/realtime_receiver.py --ddim-steps 10`.

With no flag it asks the server on this machine and moves MetaWorld.
"""

import os
import sys

# Run as a script, Python puts this file's directory first on the path, where `http.py` and `zmq.py` would
# hide the libraries of those names. The repository is what belongs there.
_HERE = os.path.dirname(os.path.abspath(__file__))
if sys.path and os.path.abspath(sys.path[0]) == _HERE:
    sys.path[0] = os.path.dirname(_HERE)

import signal  # noqa: E402
import threading  # noqa: E402
from collections.abc import Sequence  # noqa: E402
from types import FrameType  # noqa: E402

from clients.receiver_settings import RunSettings, read_settings  # noqa: E402
from policy.errors import TinyVLAError, UsageError  # noqa: E402

# CPython switches threads every 5 ms by default, which alone would be the control thread's jitter.
SWITCH_INTERVAL_S = 0.0005


def main(argv: Sequence[str]) -> int:
    """Run the episodes; 0, or 1 below --require-success, 2 for bad input, 130 when interrupted."""
    try:
        settings = read_settings(argv)
        return _run(settings)
    except ConnectionError as error:
        print(
            f"realtime_receiver: no policy server answers: {error}; "
            "start one with `tinyvla serve`, or name another with --server",
            file=sys.stderr,
        )
    except (UsageError, TinyVLAError) as error:
        print(f"realtime_receiver: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        return 130
    return 2


def _run(settings: RunSettings) -> int:
    from clients.priority import ahead_of_others
    from clients.session import run_session

    interrupt = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        if interrupt.is_set():  # a second one does not wait for the robot to hold and the report
            raise KeyboardInterrupt
        interrupt.set()

    interval = sys.getswitchinterval()
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    for number in previous:
        signal.signal(number, on_signal)
    try:
        with ahead_of_others():
            return run_session(settings, interrupt)
    finally:
        sys.setswitchinterval(interval)
        for number, handler in previous.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
