"""The flags of the realtime receiver, checked."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from clients.chunk_buffer import ChunkPolicy
from clients.episode_settings import ReceiverSettings, safety_limits
from clients.policy_flags import PolicyFlags
from clients.uncertainty import UNCERTAINTY_THRESHOLD, OnUncertain
from policy.errors import UsageError
from policy.observation import MAX_SAMPLES
from policy.spec import PolicySpec
from service.flags import parse_flags

DEFAULT_TASK = "drawer-open"


@dataclass(frozen=True)
class RunSettings(PolicyFlags):
    """Run a policy on a robot in real time.

    Control keeps its rate whatever inference does; a report is left under --out.
    """

    robot: str = "metaworld"
    """Robot to move: metaworld, needle-rig, null, or MODULE:FACTORY of your own (docs/add-a-robot.md)."""
    robot_config: Path | None = None
    """File of the robot's own settings, such as addresses, for robots that have any."""
    task: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Task of the robot, repeatable or separated by commas; default drawer-open."""
    instruction: str | None = None
    """What to tell the policy; default the task's own text."""
    episodes: int = 1
    """Episodes per task."""
    inference_rate: float = 5.0
    """Chunks asked for per second."""
    adaptive: bool = False
    """Ask as often as the server can answer instead: every 1.15 times the mean of the last ten, at least 0.1 s."""
    control_rate: float | None = None
    """Actions per second; default the robot's own rate (MetaWorld: 80)."""
    ddim_steps: int | None = None
    """Denoising steps; default the policy's."""
    chunk_policy: ChunkPolicy | None = None
    """How chunks follow each other; default rtc where the policy was trained for it, else receding."""
    max_change: float | None = None
    """Largest change of a command per step, as a fraction of its range; default unlimited."""
    limits: Path | None = None
    """File of safety limits: speeds, workspace, how old things may be (docs/realtime.md)."""
    samples: int = 1
    """Chunks drawn per request; several tell how sure the policy is."""
    on_uncertain: OnUncertain | None = None
    """What to do when they disagree; needs --samples 2 or more."""
    uncertainty_threshold: float = UNCERTAINTY_THRESHOLD
    """Disagreement of the samples from which on the policy counts as uncertain."""
    dry_run: bool = False
    """Compute everything and move nothing."""
    inject_delay: float = 0.0
    """Let no reply come earlier than this many milliseconds after its request: what would a slow server do?"""
    seed: int | None = None
    """Episode i of a task starts from seed + i; default 1000, and 1000000 for what is recorded: the needle rig's
    policies are evaluated on scenes from 1000 on, which none may be trained on. A recording that is gone on with
    counts on from the episodes it holds."""
    out: Path = Path("runs/realtime")
    """Where report.json, timeline.png and videos go."""
    save_data: Path | None = None
    """Record the episodes here as a LeRobotDataset v3.0."""
    view: bool = False
    """Stream frames, chunks and latencies to a Rerun viewer on this machine."""
    view_at: str | None = None
    """Stream them to the viewer at this address, rerun+http://HOST:9876/proxy."""
    record_rrd: Path | None = None
    """Save what --view shows in this file, with or without a viewer."""
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

    @property
    def first_seed(self) -> int:
        """What episode 0 starts from."""
        if self.seed is not None:
            return self.seed
        return 1000 if self.save_data is None else 1_000_000


def read_settings(argv: Sequence[str]) -> RunSettings:
    """Parse the flags.

    Raises:
        UsageError: a flag that does not read, in one line.
        SystemExit: after `--help`.
    """
    settings = parse_flags(RunSettings, argv, "realtime_receiver.py")
    _check(settings)
    return settings


def _check(settings: RunSettings) -> None:
    for flag, value, low, high in (
        ("--episodes", settings.episodes, 1, 100_000),
        ("--inference-rate", settings.inference_rate, 0.01, 1000.0),
        ("--control-rate", settings.control_rate, 0.1, 10_000.0),
        ("--ddim-steps", settings.ddim_steps, 1, 1000),
        ("--max-change", settings.max_change, 1e-6, 1.0),
        ("--timeout", settings.timeout, 0.01, 600.0),
        ("--seed", settings.seed, 0, 2**31),
        ("--samples", settings.samples, 1, MAX_SAMPLES),
        ("--uncertainty-threshold", settings.uncertainty_threshold, 0.0, 1000.0),
        ("--inject-delay", settings.inject_delay, 0.0, 60_000.0),
        ("--require-success", settings.require_success, 0.0, 1.0),
    ):
        # The comparison is also false for NaN.
        if value is not None and not low <= value <= high:
            raise UsageError(f"{flag}: expected {low:g} ... {high:g}, got {value:g}")
    if settings.on_uncertain is not None and settings.samples < 2:
        raise UsageError("--on-uncertain needs --samples 2 or more: one sample has nothing to disagree with")
    if settings.on_uncertain == "ask" and not sys.stdin.isatty():
        raise UsageError("--on-uncertain ask needs a terminal to ask on; slow and hold need none")


def asked_of_receiver(settings: RunSettings, spec: PolicySpec) -> ReceiverSettings:
    """What the flags ask of the receiver, for a policy of this contract.

    Raises:
        UsageError: the limits file does not fit the policy.
    """
    return ReceiverSettings(
        inference_rate_hz=settings.inference_rate,
        adaptive=settings.adaptive,
        control_rate_hz=settings.control_rate,
        chunk_policy=settings.chunk_policy,
        ddim_steps=settings.ddim_steps,
        instruction=settings.instruction,
        limits=safety_limits(
            spec, settings.inference_rate, max_change=settings.max_change, file=settings.limits
        ),
        seed=settings.first_seed,
        samples=settings.samples,
        on_uncertain=settings.on_uncertain,
        uncertainty_threshold=settings.uncertainty_threshold,
    )
