"""A policy on the simulated needle rig in real time, over the rig's own wire, with and without faults.

    python -m tests.benchmarks.rig_wire --bundle bundles/needle --episodes 20

For each condition: the rig's process with its fault, a server, the receiver at 5 Hz. Scenes are those of
`tinyvla evaluate --robot needle-rig`. Every command that leaves is checked on its way out, whatever the driver thinks
of it. The table goes to the terminal and to `--out`; a condition that is there already is not run again.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import tyro

from clients.robots.base import RobotRequest
from clients.robots.needle_rig import NeedleRig
from clients.robots.needle_rig_config import RigConfig, load_config
from clients.robots.needle_rig_contract import ACTION_LIMIT, CONTROL_RATE_HZ
from clients.robots.rig_wire import Command
from policy.bundle import read_spec
from tests.benchmarks.served import ROOT, Served
from trainer.evaluation.interval import wilson
from trainer.evaluation.run_missing import keep_same_protocol

# Flags of `tinyvla rig-sim`, by what goes wrong.
CONDITIONS: dict[str, list[str]] = {
    "nothing": [],
    "5 % of all messages lost": ["--loss", "0.05"],
    "view3 lost after 6 s": ["--lost-view", "view3", "--lost-after", "6"],
    "sensor silent from 4 s to 6 s": ["--sensor-silence", "4", "6"],
    "rig's clock 3 s ahead": ["--clock-offset", "3"],
}
_SLACK = 1e-6  # of a command, mm and degrees
_LATE_S = 2 / CONTROL_RATE_HZ  # a stream may grow stale between the driver's look and ours


@dataclass(frozen=True)
class Settings:
    """What is measured."""

    bundle: Path
    """The policy."""
    episodes: int = 20
    """Of each condition."""
    first_seed: int = 1000
    """Scene of the first one."""
    only: tuple[str, ...] = ()
    """Conditions that contain one of these words; default all."""
    ddim_steps: int | None = None
    """Sampling steps; default the policy's own."""
    out: Path = Path("runs/rig-wire")
    """Reports and table."""


class CheckedRig(NeedleRig):
    """The driver, each of whose commands is looked at before it leaves."""

    def __init__(self, config: RigConfig) -> None:
        super().__init__(config)
        self.unsafe: list[str] = []
        self._limits = config
        send = self.link.send

        def checked(command: Command, *, wait_s: float = 0.0) -> bool:
            if (fault := self._fault_of(command)) is not None:
                self.unsafe.append(fault)
            return send(command, wait_s=wait_s)

        self.link.send = checked  # type: ignore[method-assign]

    def reset(self, seed: int) -> None:
        """As the driver's."""
        self.unsafe.clear()
        super().reset(seed)

    def episode_report(self) -> dict[str, Any]:
        """The driver's, with what was unsafe."""
        return super().episode_report() | {"unsafe": list(self.unsafe)}

    def _fault_of(self, command: Command) -> str | None:
        """Why this command should not have been sent; None where it may."""
        if command.cmd != "dpose":
            return None
        change = np.asarray(command.vector, float)
        if not np.isfinite(change).all():
            return f"not finite: {change}"
        if (np.abs(change) > ACTION_LIMIT + _SLACK).any():
            return f"beyond {ACTION_LIMIT}: {change}"
        if not change.any():
            return None
        stale, ages = self._limits.stale_after, self._memory.ages(time.monotonic())
        for stream, age in ages.items():
            limit = {"state": stale.state, "sensor": stale.sensor}.get(stream, stale.cameras)
            if age > limit + _LATE_S:
                return f"moves on a {stream} of {age:.2f} s ago"
        return None


def make(request: RobotRequest) -> CheckedRig:
    """For `--robot tests.benchmarks.rig_wire:make`."""
    return CheckedRig(load_config(request.config))


def run_condition(settings: Settings, server: str, flags: Sequence[str], out: Path) -> dict[str, Any]:
    """One condition's `report.json`."""
    steps = [] if settings.ddim_steps is None else ["--ddim-steps", str(settings.ddim_steps)]
    rig = subprocess.Popen([sys.executable, "tinyvla.py", "rig-sim", *flags], cwd=ROOT)
    try:
        subprocess.run(
            [
                sys.executable, "clients/realtime_receiver.py", "--robot", f"{__spec__.name}:make", "--plain",
                "--server", server, "--inference-rate", "5", "--episodes", str(settings.episodes),
                "--seed", str(settings.first_seed), "--out", str(out.resolve()), *steps,
            ],
            cwd=ROOT,
            check=True,
        )  # fmt: skip
    finally:
        rig.terminate()
        rig.wait(30)
    report: dict[str, Any] = json.loads((out / "report.json").read_text())
    return report


def row(condition: str, report: dict[str, Any]) -> str:
    """One line of the table."""
    episodes = report["episodes"]
    told = [episode["robot"] for episode in episodes]
    won = sum(episode["success"] for episode in episodes)
    low, high = wilson(won, len(episodes))
    docked = sum(bool(one["episode"] and one["episode"]["docked"]) for one in told)
    aborted = sum(bool(one["episode"] and one["episode"]["aborted"]) for one in told)
    held = mean(one["held_steps"] for one in told) / CONTROL_RATE_HZ
    unsafe = sum(len(one["unsafe"]) for one in told)
    commands = sum(episode["control_periods"] for episode in episodes)
    round_trip = report["overall"]["stages"]["round_trip_ms"]["p50"]
    return (
        f"| {condition} | {docked}/{len(episodes)} | {won}/{len(episodes)} | {100 * low:.0f}–{100 * high:.0f} % "
        f"| {aborted} | {held:.1f} | {round_trip:.0f} | {unsafe} of {commands} |"
    )


def main(settings: Settings) -> None:
    """Run what is not there yet, then print the table."""
    chosen = [name for name in CONDITIONS if not settings.only or any(word in name for word in settings.only)]
    lines = [
        "| what goes wrong | docked | success | 95 % interval | aborts | held, s | round trip, ms | unsafe commands |",
        "|---|---|---|---|---|---|---|---|",
    ]
    # Figures that are there already are this policy's. Of how many episodes may differ: the table says it.
    results = {
        "policy": read_spec(settings.bundle).label,
        "seed": settings.first_seed,
        "ddim_steps": settings.ddim_steps,
    }
    keep_same_protocol(settings.out, results)
    with Served(["--bundle", str(settings.bundle.resolve())]) as server:
        for name in chosen:
            out = settings.out / name.replace(" ", "-").replace("%", "percent").replace("'", "")
            kept = out / "report.json"
            report = (
                json.loads(kept.read_text())
                if kept.exists()
                else run_condition(settings, server.zmq_url, CONDITIONS[name], out)
            )
            lines.append(row(name, report))
            print(lines[-1], flush=True)
    (settings.out / "table.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
