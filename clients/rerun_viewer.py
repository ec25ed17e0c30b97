"""`--view`: a Rerun viewer on this machine, on loopback only, or the address of one that runs elsewhere."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

from policy.errors import UsageError

PORT = 9876  # Rerun's own
UP_WITHIN_S = 20.0
INSTALL = "pip install -c constraints.txt -e '.[viz]' brings the Rerun viewer"


def open_viewer(port: int = PORT) -> str:
    """The address of a viewer on this machine: the one that listens there already, or a new one.

    It stays when this process ends. Rerun's own way of starting it would listen on every network interface and
    would need its command on the PATH.

    Raises:
        UsageError: there is no viewer to start, or it did not come up, with its last words.
    """
    address = f"rerun+http://127.0.0.1:{port}/proxy"
    if _listening(port):
        return address
    command = [str(_executable()), "--bind", "127.0.0.1", "--port", str(port), "--expect-data-soon"]
    # It sends statistics of its use to its maker unless told that nobody is using it.
    environment = {**os.environ, "CI": "1"}
    with tempfile.TemporaryFile("w+") as said:
        viewer = subprocess.Popen(
            command,
            env=environment,
            stdout=said,
            stderr=said,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        until = time.monotonic() + UP_WITHIN_S
        while viewer.poll() is None and time.monotonic() < until:
            if _listening(port) and _stays(viewer):
                return address
            time.sleep(0.05)
        viewer.kill()
        viewer.wait()
        said.seek(0)
        words = [line.strip() for line in said if line.strip()] or ["nothing"]
    raise UsageError(
        f"--view: the viewer did not come up ({words[-1][:200]}); where there is no screen, use --record-rrd FILE, "
        "or --view-at with the address of a viewer elsewhere"
    )


def check_viewer(address: str) -> str:
    """The address, if a viewer listens there.

    Raises:
        UsageError: it is none, or nobody does.
    """
    parts = urlsplit(address.removeprefix("rerun+"))
    try:
        if not address.startswith("rerun") or not parts.hostname or not parts.port:
            raise ValueError("expected rerun+http://HOST:9876/proxy")
        socket.create_connection((parts.hostname, parts.port), timeout=2.0).close()
    except (OSError, ValueError) as error:
        raise UsageError(f"--view-at {address}: no viewer there: {error}") from None
    return address


def _stays(viewer: subprocess.Popen[bytes]) -> bool:
    """It listens before it opens its window, which may fail."""
    try:
        viewer.wait(1.0)
    except subprocess.TimeoutExpired:
        return True
    return False


def _executable() -> Path:
    found = importlib.util.find_spec("rerun_cli")
    path = Path(found.origin).parent / "rerun" if found is not None and found.origin else None
    if path is None or not path.is_file():
        raise UsageError(f"--view: no Rerun viewer is installed; {INSTALL}")
    return path


def _listening(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0
