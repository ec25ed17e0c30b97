"""`make demo`: a server on the shipped policy, the realtime receiver moving MetaWorld with it.

Usage: python -m clients.demo [--bundle DIR] [--task TASKS] [--episodes N] [--seed N] [--out DIR]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx

from clients.realtime_receiver import main as receive
from clients.robots.metaworld_tasks import BUNDLED_TASKS
from policy.errors import UsageError

ROOT = Path(__file__).resolve().parents[1]
BUNDLE = ROOT / "bundles" / "metaworld8"
# Loading and verifying a bundle takes a few seconds on two cores.
READY_WITHIN_S = 60.0
STOP_WITHIN_S = 10.0


def main(argv: Sequence[str]) -> int:
    """Run the demo; 1 when fewer than half of the episodes succeed, 2 when it cannot run, 130 when interrupted."""
    parser = argparse.ArgumentParser(prog="demo", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=BUNDLE, help="policy bundle to serve")
    parser.add_argument("--task", default=",".join(BUNDLED_TASKS), help="tasks, separated by commas")
    parser.add_argument("--episodes", type=int, default=1, help="episodes per task")
    parser.add_argument("--seed", type=int, default=1000, help="episode i starts from seed + i")
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="where everything goes")
    asked = parser.parse_args(argv)
    receiver_flags = [
        f"--task={asked.task}", f"--episodes={asked.episodes}", f"--seed={asked.seed}", "--ddim-steps=10",
        "--video", "--require-success=0.5",
    ]  # fmt: skip
    try:
        if not (asked.bundle / "policy.json").is_file():
            raise UsageError(f"no policy bundle at {asked.bundle}")
        return run(("--bundle", str(asked.bundle.resolve())), receiver_flags, asked.out)
    except UsageError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # while the server starts; the receiver takes its own
        return 130


def run(serve_flags: Sequence[str], receiver_flags: Sequence[str], out: Path) -> int:
    """Serve with the one set of flags, receive with the other; the receiver's exit code.

    Raises:
        UsageError: the server did not come up; the message ends with what it said.
    """
    out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with serving(serve_flags, out / "server.log") as url:
        print(f"server ready at {url} after {time.monotonic() - began:.1f} s", flush=True)
        code = receive([f"--server={url}", f"--out={out}", *receiver_flags])
    print(f"demo finished in {time.monotonic() - began:.1f} s; see {out}", flush=True)
    return code


@contextlib.contextmanager
def serving(flags: Sequence[str], log: Path) -> Iterator[str]:
    """A `tinyvla serve` of its own on free loopback ports, ready when the block begins, stopped after it."""
    port, zmq_port = free_ports(2)
    command = [
        sys.executable,
        "-m",
        "tinyvla",
        "serve",
        *flags,
        "--port",
        str(port),
        "--zmq-port",
        str(zmq_port),
    ]
    url = f"http://127.0.0.1:{port}"
    # Settings of a server that the user runs elsewhere must not reach this one.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TINYVLA_")}
    with log.open("w") as output:
        server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
        try:
            wait_until_ready(server, url, log)
            yield url
        finally:
            server.terminate()
            try:
                server.wait(STOP_WITHIN_S)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def wait_until_ready(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    """Block until a server answers that it is warm.

    Raises:
        UsageError: it ended, or takes too long.
    """
    until = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < until:
        if server.poll() is not None:
            said = log.read_text(errors="replace").strip().splitlines() or ["nothing"]
            raise UsageError(f"the server ended with code {server.returncode}: {said[-1]}")
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/readyz", timeout=2.0, trust_env=False).is_success:
                return
        time.sleep(0.1)
    raise UsageError(f"the server was not ready within {READY_WITHIN_S:g} s; see {log}")


def free_ports(count: int) -> list[int]:
    """Ports of this machine's loopback that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
