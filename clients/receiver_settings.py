"""The flags of the realtime receiver, checked."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from clients.chunk_buffer import ChunkPolicy
from clients.robots.make import RobotName
from policy.errors import UsageError

DEFAULT_SERVER = "http://127.0.0.1:8000"
DEFAULT_TASK = "drawer-open"


@dataclass(frozen=True)
class RunSettings:
    """Run a policy on a robot in real time.

    Control keeps its rate whatever inference does; a report is left under --out.
    """

    server: str = DEFAULT_SERVER
    """Policy server, http://HOST:PORT or tcp://HOST:PORT."""
    token: str | None = None
    """The server's bearer token; default TINYVLA_TOKEN of the environment."""
    checkpoint: Path | None = None
    """Policy bundle to run in this process instead of asking a server."""
    robot: RobotName = "metaworld"
    """Which robot to move."""
    task: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Task of the robot, repeatable or separated by commas; default drawer-open."""
    instruction: str | None = None
    """What to tell the policy; default the task's own text."""
    episodes: int = 1
    """Episodes per task."""
    inference_rate: float = 5.0
    """Chunks asked for per second."""
    control_rate: float | None = None
    """Actions per second; default the robot's own rate (MetaWorld: 80)."""
    ddim_steps: int | None = None
    """Denoising steps; default the policy's."""
    chunk_policy: ChunkPolicy | None = None
    """How chunks follow each other; default rtc where the policy was trained for it, else receding."""
    max_change: float | None = None
    """Largest change of a command per step, as a fraction of its range; default unlimited."""
    image_format: Literal["raw", "jpeg"] = "raw"
    """How images travel to the server."""
    timeout: float = 5.0
    """Longest wait for a reply, seconds."""
    seed: int = 1000
    """Episode i of a task starts from seed + i."""
    out: Path = Path("runs/realtime")
    """Where report.json, timeline.png and videos go."""
    save_data: Path | None = None
    """Record the episodes here as a LeRobotDataset v3.0."""
    video: bool = False
    """Leave a video per task."""
    plain: bool = False
    """Print lines instead of redrawing the terminal."""
    require_success: float | None = None
    """Exit with 1 when a smaller share of the episodes succeeds."""

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks, one by one."""
        named = tuple(part.strip() for item in self.task for part in item.split(",") if part.strip())
        return named or (DEFAULT_TASK,)


def read_settings(argv: Sequence[str]) -> RunSettings:
    """Parse the flags.

    Raises:
        UsageError: a flag that does not read, in one line.
        SystemExit: after `--help`.
    """
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            settings = tyro.cli(RunSettings, prog="realtime_receiver.py", args=list(argv))
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise UsageError(f"{_one_line(complaint.getvalue())}; see --help") from None
    _check(settings)
    return settings


def _one_line(panel: str) -> str:
    """The first paragraph of tyro's framed complaint."""
    paragraph: list[str] = []
    for line in panel.splitlines():
        if not line.startswith("│"):
            continue
        text = line.strip("│ ")
        if set(text) <= {"─"}:
            break
        paragraph.append(text)
    return " ".join(paragraph) or " ".join(panel.split())


def _check(settings: RunSettings) -> None:
    for flag, value, low, high in (
        ("--episodes", settings.episodes, 1, 100_000),
        ("--inference-rate", settings.inference_rate, 0.01, 1000.0),
        ("--control-rate", settings.control_rate, 0.1, 10_000.0),
        ("--ddim-steps", settings.ddim_steps, 1, 1000),
        ("--max-change", settings.max_change, 1e-6, 1.0),
        ("--timeout", settings.timeout, 0.01, 600.0),
        ("--seed", settings.seed, 0, 2**31),
        ("--require-success", settings.require_success, 0.0, 1.0),
    ):
        # The comparison is also false for NaN.
        if value is not None and not low <= value <= high:
            raise UsageError(f"{flag}: expected {low:g} ... {high:g}, got {value:g}")
