"""A `tinyvla serve` process for benchmarks: its addresses, its memory, its end."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parents[2]


class Served:
    """`with Served(["--null"]) as server:` is a server on free ports until the block ends."""

    def __init__(self, flags: Sequence[str]) -> None:
        command = [
            sys.executable,
            str(ROOT / "tinyvla.py"),
            "serve",
            "--port",
            "0",
            "--zmq-port",
            "0",
            *flags,
        ]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT
        )
        assert self.process.stdout is not None
        told = ""
        for line in self.process.stdout:
            told += line
            if "ready" in line:
                break
        found = re.search(r"(http://[\w.:]+).*?(tcp://[\w.:]+)", told)
        if found is None:
            self.process.kill()
            raise SystemExit(f"the server did not become ready:\n{told}")
        self.http_url, self.zmq_url = found[1], found[2]
        groot = re.search(r"GR00T at (tcp://[\w.:]+)", told)
        self.groot_url = groot[1] if groot else None  # with --groot-port
        self.lines: list[str] = []  # what it says from now on
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines += self.process.stdout

    def rss_mb(self) -> float:
        """Resident memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        return int(found[1]) / 1024 if found else float("nan")

    def __enter__(self) -> Served:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        self._reader.join()
