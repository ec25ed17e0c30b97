"""A client in a process of its own: clients that share an interpreter would wait for each other, not for the server.

`python -m clients.bench.client_process JSON` connects and warms up, says ``ready``, is told when to start and when to
end on standard input, and answers with its samples as one line of JSON.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from dataclasses import asdict
from typing import TextIO, cast

from clients.bench.callers import open_caller
from clients.bench.cases import Case
from clients.bench.load import Samples, run_load
from clients.bench.observation import bench_observation
from policy.errors import TinyVLAError, UsageError
from policy.spec import PolicySpec


class ClientProcess:
    """The other end of it.

    Args:
        case: what to do.
        url: of the case's door.
        token: of the server.
        spec: of the policy that is asked.
        warmup: calls before it is ready.
    """

    def __init__(self, case: Case, url: str, token: str | None, spec: PolicySpec, warmup: int) -> None:
        asked = {"case": asdict(case), "url": url, "spec": spec.model_dump(mode="json"), "warmup": warmup}
        # The token is no argument: every user of a machine can read those.
        environment = os.environ | ({"TINYVLA_TOKEN": token} if token else {})
        self._process = subprocess.Popen(
            [sys.executable, "-m", "clients.bench.client_process", json.dumps(asked)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def await_ready(self) -> None:
        """Return once it is connected and warm; raises `UsageError` with what it said otherwise."""
        self._line("ready")

    def start(self, starts: float, ends: float) -> None:
        """Times of the monotonic clock, which all processes of a machine share."""
        print(json.dumps([starts, ends]), file=self._pipe(self._process.stdin), flush=True)

    def samples(self) -> Samples:
        """What it saw, once it is done."""
        told = json.loads(self._line("{"))
        self._process.wait()
        samples = Samples(latencies_ms=told["latencies_ms"], in_time=told["in_time"])
        samples.errors.update(told["errors"])
        return samples

    def close(self) -> None:
        """End it, whatever it does."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()

    def _line(self, opening: str) -> str:
        line = self._pipe(self._process.stdout).readline()
        if not line.startswith(opening):
            said = self._pipe(self._process.stderr).read().strip().splitlines() or ["nothing"]
            raise UsageError(f"a client of the benchmark failed: {said[-1][:300]}")
        return line

    @staticmethod
    def _pipe(pipe: object) -> TextIO:
        return cast(TextIO, pipe)


def main(argv: list[str]) -> int:
    """The process itself."""
    asked = json.loads(argv[0])
    case, spec = Case(**asked["case"]), PolicySpec.model_validate(asked["spec"])
    observation = bench_observation(spec, case.width, case.height)
    try:
        caller = open_caller(case, asked["url"], os.environ.get("TINYVLA_TOKEN"), observation)
        for _ in range(asked["warmup"]):
            caller.call()
    except (TinyVLAError, ConnectionError, UsageError) as error:
        print(f"{case}: {error}", file=sys.stderr)
        return 2
    gc.collect()
    gc.freeze()  # what was loaded so far is not looked through again while it is measured
    print("ready", flush=True)
    starts, ends = json.loads(sys.stdin.readline())
    samples = run_load(caller.call, starts, ends, case.rate_hz)
    print(json.dumps(asdict(samples)), flush=True)
    caller.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
