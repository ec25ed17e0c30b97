"""`tinyvla selftest`: does this installation compute what it should? Under a minute on a CPU."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rich.console import Console

from policy.runtimes.torch_device import torch_device
from service.flags import parse_flags
from trainer.selfchecks import CHECKS, CheckFailed, Setup


@dataclass(frozen=True)
class SelftestArgs:
    """Check schedule, heads, sampling, sensor encoder, the whole model and its export on fresh networks."""

    device: str = "auto"
    """auto, cpu or cuda; the export is always checked on the CPU."""


def run_checks(setup: Setup, console: Console, checks: Mapping[str, Callable[[Setup], str]] = CHECKS) -> int:
    """Run every check, one line each; returns how many failed."""
    failed = 0
    for name, check in checks.items():
        start = time.perf_counter()
        try:
            verdict, told = "passed", check(setup)
        except CheckFailed as error:
            verdict, told = "FAILED", str(error)
        except Exception as error:  # a broken installation shows itself in any way it likes
            verdict, told = "FAILED", f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        failed += verdict == "FAILED"
        seconds = time.perf_counter() - start
        console.print(
            f"{verdict}  {name:<15} {seconds:5.1f} s  {told}", highlight=False, markup=False, soft_wrap=True
        )
    return failed


def main(argv: list[str]) -> int:
    """Entry of `tinyvla selftest`; 1 when a check failed."""
    args = parse_flags(SelftestArgs, argv, "tinyvla selftest")
    console = Console()
    start = time.perf_counter()
    failed = run_checks(Setup(device=torch_device(args.device, None).type), console)
    seconds = time.perf_counter() - start
    console.print(f"{len(CHECKS) - failed} of {len(CHECKS)} passed in {seconds:.0f} s")
    return 1 if failed else 0
