"""Flags of `tinyvla collect`, and which tasks they mean."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from clients.rig_sim.parameters import DEFAULT_FILE
from clients.robots import metaworld_sim
from clients.robots.metaworld_tasks import BUNDLED_TASKS, TASKS, task_name
from policy.errors import UsageError

Until = Literal["success", "aligned"]


@dataclass
class CollectArgs:
    """Record demonstrations from a scripted expert into a LeRobotDataset v3.0.

    Only successful episodes are kept. The same arguments give the same files, byte for byte, whatever the number
    of workers; a run that was killed goes on where it was when the same command is given again.
    """

    out: Path
    """Directory of the dataset."""
    robot: Literal["metaworld", "needle-rig"] = "metaworld"
    """Whose scripted expert: MetaWorld's, or that of the simulated needle rig."""
    tasks: Annotated[tuple[str, ...], tyro.conf.arg(aliases=["--task"])] = BUNDLED_TASKS
    """MetaWorld tasks, such as `reach pick-place`, or `all` for the 50; the needle rig has one of its own."""
    episodes: int = 100
    """Successful episodes per task; `TASK=N` in --tasks overrides it for one task."""
    cameras: tuple[str, ...] = ()
    """Camera names; default corner4 and corner of MetaWorld, the five views of the needle rig."""
    size: int = 128
    """Height and width of MetaWorld's images, pixels; the needle rig's are in --rig-parameters."""
    rig_parameters: Path = DEFAULT_FILE
    """Numbers of the simulated needle rig."""
    until: Until = "success"
    """Needle rig: end each demonstration a little after success, or after aligning: many scenes for few frames."""
    noise: float = 1.0
    """Largest random push, as a fraction of the action range (the pushed action is executed, the clean one stored)."""
    reopen: bool = True
    """Correct experts that leave a closed, empty gripper closed."""
    image_every: int = 4
    """Control steps (1/80 s, needle rig 1/20 s) per recorded frame; every control step's action is stored."""
    quality: int = 95
    """JPEG quality, without chroma subsampling; 0 stores PNG."""
    takeover: Path | None = None
    """A policy bundle that drives first, so that the expert shows the way out of where the policy gets to."""
    takeover_within: int = 240
    """With --takeover: the expert takes over after a random number of control steps up to this."""
    takeover_lead: int = 32
    """With --takeover: control steps before the expert takes over that are recorded too, so that training can show
    what led there as a prefix; the policy's longest prefix is the most that can be used."""
    takeover_delay: int = 0
    """With --takeover: control steps that pass while a chunk is computed, drawn up to this; 0 drives in lock-step."""
    seed: int = 0
    """Everything follows from it."""
    workers: int | None = None
    """Processes; default one per processor, of the whole cluster with --ray."""
    ray: str | None = None
    """Work on a Ray cluster: its address, `auto`, or `local` for one of this machine's own."""


def parse_tasks(tasks: tuple[str, ...], episodes: int) -> dict[str, int]:
    """`("reach", "push=20")` -> `{"reach": episodes, "push": 20}`; `all` stands for the 50 tasks."""
    wanted: dict[str, int] = {}
    for entry in [part for item in tasks for part in item.split(",") if part]:
        name, _, count = entry.partition("=")
        if count and not count.isdigit():
            raise UsageError(f"--tasks {entry}: {count!r} is not a number of episodes")
        for task in TASKS if name == "all" else [task_name(name)]:
            wanted[task] = int(count) if count else episodes
    if not wanted or min(wanted.values()) < 1:
        raise UsageError("nothing to collect: give at least one task and one episode")
    return wanted


def check_flags(args: CollectArgs) -> None:
    """Raise UsageError for the first flag whose value cannot work."""
    rules = [
        ("workers", args.workers is None or args.workers >= 1, "1 or more"),
        ("size", args.size >= 1, "1 or more"),
        ("image_every", 1 <= args.image_every <= metaworld_sim.MAX_STEPS, f"1 ... {metaworld_sim.MAX_STEPS}"),
        ("noise", 0 <= args.noise < float("inf"), "0 or more"),
        ("quality", 0 <= args.quality <= 100, "0 ... 100"),
        ("takeover_within", args.takeover_within >= 0, "0 or more"),
        ("takeover_lead", args.takeover_lead >= 0, "0 or more"),
        ("takeover_delay", args.takeover_delay >= 0, "0 or more"),
        ("seed", args.seed >= 0, "0 or more"),
        ("cameras", 0 < len(args.cameras) == len(set(args.cameras)), "at least one name, none of them twice"),
    ]
    for name, holds, wanted in rules:
        if not holds:
            raise UsageError(f"--{name.replace('_', '-')} must be {wanted}, got {getattr(args, name)}")
