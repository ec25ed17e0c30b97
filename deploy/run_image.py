"""Start the server of a built image as `docker run` would, ask it for actions, and end it.

`test_image.py` starts this in a network namespace of its own, so that the image's default ports are free and
nobody outside can reach them. Usage: run_image.py BUILDAH_DIRECTORY IMAGE POLICY_JSON
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from image_base import Buildah
from probe_server import act, status, wait_until_ready

URL = "http://127.0.0.1:8000"
ZMQ = ("127.0.0.1", 5570)
READY_WITHIN_S = 120.0
STOP_WITHIN_S = 30.0
NOT_NEEDED = ("torch", "mujoco", "metaworld", "clients", "trainer", "pip")


def main(argv: list[str]) -> int:
    """0 when the server in the image did everything that is asked of it."""
    buildah, image, spec = Buildah(Path(argv[0])), argv[1], json.loads(Path(argv[2]).read_text())
    _bring_loopback_up()
    container = buildah.output("from", image)
    try:
        check(buildah, container, spec, Path(argv[0]) / "server.log")
    except RuntimeError as error:
        print(f"test_image: {error}", file=sys.stderr)
        return 1
    finally:
        buildah("rm", container)
    return 0


def check(buildah: Buildah, container: str, spec: dict[str, Any], log: Path) -> None:
    """Every promise of the image, in the order in which a user meets them.

    Raises:
        RuntimeError: a promise that is not kept.
    """
    config = json.loads(buildah.output("inspect", "--type", "container", container))["Docker"]["config"]
    inside = (*buildah.command, "run", "--isolation", "chroot", container, "--")
    with _running((*inside, *config["Entrypoint"], *(config.get("Cmd") or [])), log) as server:
        took = wait_until_ready(URL, READY_WITHIN_S, alive=lambda: server.poll() is None)
        print(f"ready after {took:.1f} s")

        pid = _leaf(server.pid)
        uid = os.stat(f"/proc/{pid}").st_uid
        _expect(uid != 0, "the server runs as root")

        # Being ready and saying so are two threads' work.
        token = _wait_for_token(log)
        _expect(status(f"{URL}/act", b"{}") == 401, "without its token /act must answer 401")
        reply = act(URL, token, spec)
        print(f"{reply['policy']} as user {uid}: {len(reply['actions'])} actions, {reply['timing_ms']}")
        with socket.create_connection(ZMQ, timeout=10) as door:
            _expect(door.recv(1) == b"\xff", "no ZeroMQ greeting at the second door")

        health = subprocess.run([*inside, *config["Healthcheck"]["Test"][1:]], check=False)
        _expect(health.returncode == 0, "the health check calls a ready server unhealthy")
        os.kill(pid, getattr(signal, config["StopSignal"]))
        _expect(
            server.wait(STOP_WITHIN_S) == 0, f"the server ended with code {server.returncode} when stopped"
        )

    health = subprocess.run([*inside, *config["Healthcheck"]["Test"][1:]], capture_output=True, check=False)
    _expect(health.returncode == 1, "the health check calls a stopped server healthy")
    find = f"import importlib.util as u; print(*[m for m in {NOT_NEEDED} if u.find_spec(m)])"
    present = subprocess.run([*inside, "python3", "-c", find], check=True, stdout=subprocess.PIPE, text=True)
    _expect(not present.stdout.split(), f"the image holds what no server needs: {present.stdout.strip()}")


def _expect(kept: bool, broken: str) -> None:
    if not kept:
        raise RuntimeError(broken)


@contextmanager
def _running(command: tuple[str, ...], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        yield server
    except RuntimeError:
        print(log.read_text(errors="replace")[-4000:], file=sys.stderr)
        raise
    finally:
        if server.poll() is None:
            os.kill(_leaf(server.pid), signal.SIGKILL)
            server.wait(STOP_WITHIN_S)


def _wait_for_token(log: Path, within_s: float = 10.0) -> str:
    """The token that the server made and printed."""
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        if found := re.search(r"this one was made: (\S+)", log.read_text(errors="replace")):
            return found.group(1)
        time.sleep(0.1)
    raise RuntimeError("the server listens on every address and printed no token")


def _leaf(pid: int) -> int:
    """The process at the end of the chain of children: the server under buildah's own processes."""
    while child := next((one for one in _processes() if _parent(one) == pid), None):
        pid = child
    return pid


def _processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _parent(pid: int) -> int | None:
    try:
        return int(re.findall(r"^PPid:\s*(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)[0])
    except OSError:  # it has ended
        return None


def _bring_loopback_up() -> None:
    """A new network namespace has its loopback interface down."""
    up = 0x1  # IFF_UP
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, 0x8914, struct.pack("16sh14x", b"lo", up))  # SIOCSIFFLAGS


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
