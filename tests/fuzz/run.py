"""`python -m tests.fuzz.run --messages 1000000`: fuzz every door of a server of its own, a healthy robot beside it.

Exit code 0 when the server lived, no answer or log line showed a traceback or an unforeseen error, every door
answered, and the robot was never late. What found something is kept in tests/fuzz/corpus.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from tests.benchmarks.served import Served
from tests.fuzz import campaign
from tests.fuzz.doors import Address

ROOT = Path(__file__).resolve().parents[2]
_UNFORESEEN = re.compile("Traceback|internal error")


@dataclass(frozen=True)
class FuzzArgs:
    """Mutated messages over all doors of a running server with a null policy."""

    messages: int = 100_000
    """Over all doors together."""
    seed: int = 0
    """Same seed, same messages."""
    deadline_ms: float = 200.0
    """When an answer is too late for the healthy robot: a robot that asks five times a second can use no later one."""
    rate_hz: float = 20.0
    """How often the healthy robot asks."""
    out: Path = Path("runs/fuzz")
    """Where the server's log and report.json go."""


def fuzz(args: FuzzArgs, keep: Path = campaign.FOLDER) -> list[str]:
    """Run a campaign, print what became of it and leave it under `args.out`.

    Returns:
        What was found, in words; empty when all is well.
    """
    with Served(["--null", "--groot-port", "0"]) as server:
        assert server.groot_url is not None
        address = Address(server.http_url, server.zmq_url, server.groot_url)
        robot = _start_robot(address, args)
        try:
            before = server.rss_mb()
            reports = campaign.run(address, args.messages, args.seed, keep=keep)
            told, _ = robot.communicate(timeout=120)
        finally:
            robot.kill()
        alive = server.process.poll() is None
        after = server.rss_mb() if alive else 0.0
    served = json.loads(told)
    findings = [f"{report.door}: {found}" for report in reports for found in report.findings]
    findings += [f"the healthy robot: {miss}" for miss in served["misses"]]
    if not alive:
        findings.append("the server is gone")
    elif server.process.returncode:
        findings.append(f"the server ended with {server.process.returncode}")
    findings += [f"the log: {line.rstrip()}" for line in server.lines if _UNFORESEEN.search(line)][:20]
    report = {
        "doors": {r.door: {"sent": r.sent, "seconds": r.seconds, "codes": dict(r.codes)} for r in reports},
        "healthy": served,
        "server_mb": [before, after],
        "findings": findings,
        "arguments": {**vars(args), "out": str(args.out)},
    }
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "server.log").write_text("".join(server.lines))
    (args.out / "report.json").write_text(json.dumps(report, indent=2))
    _print(report)
    return findings


def _start_robot(address: Address, args: FuzzArgs) -> subprocess.Popen[str]:
    told = (str(args.deadline_ms), str(args.rate_hz), address.zmq, address.http)
    command = [sys.executable, "-m", "tests.fuzz.healthy", *told]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _print(report: dict[str, Any]) -> None:
    for door, told in report["doors"].items():
        codes = ", ".join(f"{code} {count}" for code, count in told["codes"].items())
        print(f"{door:15}{told['sent']:>9}  {told['sent'] / told['seconds']:>6.0f}/s  {codes}")
    print(f"{'together':15}{sum(told['sent'] for told in report['doors'].values()):>9}")
    served, deadline_ms = report["healthy"], report["arguments"]["deadline_ms"]
    print(
        f"healthy robot: {served['asked']} requests, {served['missed']} missed their {deadline_ms:g} ms; "
        f"p50 {served['p50_ms']:.1f}, p99 {served['p99_ms']:.1f}, max {served['max_ms']:.1f} ms"
    )
    before, after = report["server_mb"]
    print(f"server: {before:.0f} MB before, {after:.0f} MB after")


def main() -> int:
    """Entry of the command."""
    findings = fuzz(tyro.cli(FuzzArgs, prog="python -m tests.fuzz.run"))
    for found in findings:
        print(f"FOUND {found}")
    print("nothing found" if not findings else f"{len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
