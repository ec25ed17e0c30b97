"""`tinyvla bench serve`: latency and throughput of a policy server's doors, as table, JSON and picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from rich.console import Console

from clients.bench.callers import missing_client
from clients.bench.cases import DOORS, Measurement
from clients.bench.chart import write_chart
from clients.bench.measure import measure
from clients.bench.report import print_table, write_json
from clients.bench.servers import servers
from clients.bench.settings import BenchSettings, read_settings
from clients.connect import connect
from policy.errors import UsageError

_WIDTH = 150  # of a table that goes into a file


def main(argv: list[str]) -> int:
    """0 when every case was measured, 1 when some were, 130 when it was interrupted.

    Raises:
        UsageError: flags that make no sense, a server that does not start or answer, a client that is not installed,
            or not one case that could be measured.
    """
    if not argv or argv[0] != "serve":
        raise UsageError("there is: tinyvla bench serve; its flags: tinyvla bench serve --help")
    return run(read_settings(argv[1:]))


def run(settings: BenchSettings) -> int:
    """Measure every case and write what came of it."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_WIDTH)
    settings = _with_doors(settings, console)
    cases, measured, failed = settings.cases(), list[Measurement](), list[str]()
    interrupted = False
    with servers(settings) as addresses:
        client = connect(addresses.http, settings.token)
        try:
            spec = client.spec()
        except ConnectionError as error:
            raise UsageError(str(error)) from None
        finally:
            client.close()
        try:
            for number, case in enumerate(cases, 1):
                console.print(f"{number}/{len(cases)} {case}")
                try:
                    one = measure(case, addresses, settings.token, spec, settings.seconds, settings.warmup)
                except UsageError as error:  # what the other cases tell is not lost
                    console.print(f"not measured: {error}")
                    failed.append(str(error))
                else:
                    measured.append(one)
        except KeyboardInterrupt:
            interrupted = True
            console.print(f"interrupted: {len(measured)} of {len(cases)} cases were measured")
    if not measured:
        if interrupted:
            return 130
        raise UsageError(f"not one case could be measured: {failed[0]}")
    _tell(settings, measured, spec.label, console, interrupted=interrupted)
    return 130 if interrupted else 1 if failed else 0


def _tell(
    settings: BenchSettings,
    measured: Sequence[Measurement],
    policy: str,
    console: Console,
    *,
    interrupted: bool,
) -> None:
    """What was measured, as table and files."""
    print_table(console, measured)
    shown = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(settings).items()}
    del shown["token"]
    write_json(settings.out / "bench.json", measured, shown, policy, interrupted=interrupted)
    written = "bench.json"
    try:
        write_chart(settings.out / "bench.png", measured, f"tinyvla bench serve, {policy}")
        written += " and bench.png"
    except ImportError as error:
        console.print(f"no picture: {error}; pip install -c constraints.txt -e '.[sim]' brings matplotlib")
    console.print(f"{written} in {settings.out}")


def _with_doors(settings: BenchSettings, console: Console) -> BenchSettings:
    """With the doors named: known before anything is measured, as a client that is missing is found out late."""
    missing = {door: said for door in settings.doors or DOORS if (said := missing_client(door)) is not None}
    for said in missing.values():
        if settings.doors:
            raise UsageError(said)
        console.print(f"left out: {said}")
    return replace(settings, doors=tuple(door for door in settings.doors or DOORS if door not in missing))
