"""The benchmark's own server: whatever it says, it is not held up by who started it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from clients.bench import servers
from clients.bench.settings import BenchSettings

TALKATIVE = """
import sys, time
print("ready: a policy at http://a and tcp://b, GR00T at tcp://c", file=sys.stderr, flush=True)
for _ in range(5000):
    print("overloaded" * 20, file=sys.stderr)
open("said-it-all", "w").close()
time.sleep(60)
"""


def test_a_server_that_logs_much_while_it_is_measured_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipe holds 64 kB."""
    (tmp_path / "tinyvla.py").write_text(TALKATIVE)
    monkeypatch.setattr(servers, "_ROOT", tmp_path)
    with servers.servers(BenchSettings(doors=("groot",))) as addresses:
        assert addresses.by_door["groot"] == "tcp://c"
        until = time.monotonic() + 20
        while not (said := (tmp_path / "said-it-all").exists()) and time.monotonic() < until:
            time.sleep(0.02)
    assert said
