"""Flags of `tinyvla import`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from clients.robots.needle_rig_contract import CONTROL_RATE_HZ, INSTRUCTION, VIEWS
from policy.errors import UsageError

LayoutName = Literal["recv-all", "episodes", "short-metaworld"]


@dataclass(frozen=True)
class ImportArgs:
    """Turn recordings of other projects into a LeRobotDataset v3.0.

    Says what was dropped and why, in a table and in import-report.json. Run again, it goes on where it was.
    """

    source: tyro.conf.Positional[Path]
    """A recording, or a directory that holds some."""
    out: Path
    """Directory of the dataset."""
    layout: Literal["auto", "recv-all", "episodes", "short-metaworld"] = "auto"
    """What `source` looks like; see docs/importing.md."""
    tolerance_ms: float = 10.0
    """A picture without a robot state this near to it in time is dropped."""
    view_tolerance_ms: float = 10.0
    """A picture without a picture of every other view this near to it is dropped."""
    fps: float | None = None
    """Frames a second; default 5 for the needle rig, 20 for short-MetaWorld, which does not say its own."""
    size: str | None = None
    """Pictures as WIDTHxHEIGHT; default 128x72 for the needle rig, 128x128 for short-MetaWorld."""
    quality: int = 95
    """JPEG quality of pictures that are made smaller."""
    views: tuple[str, ...] = VIEWS
    """Views of the needle rig; a session that lacks one is left out."""
    camera: str = "camera"
    """Name of short-MetaWorld's one camera."""
    instruction: str = INSTRUCTION
    """What the needle rig was told to do; short-MetaWorld's tasks have their own."""
    camera_offset: float | None = None
    """Seconds to add to the pictures' times; default 0, and sessions that begin and end at other times are left out."""
    sensor_offset: float | None = None
    """Seconds to add to the sensor's times; default by when it begins and ends beside the robot's states."""
    min_frames: int = 5
    """Shorter stretches without a gap are dropped."""

    def resolved_fps(self, layout: LayoutName) -> float:
        return self.fps if self.fps is not None else (20.0 if layout == "short-metaworld" else 5.0)

    def resolved_size(self, layout: LayoutName) -> tuple[int, int]:
        """(height, width) of the dataset's pictures."""
        text = self.size or ("128x128" if layout == "short-metaworld" else "128x72")
        match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
        if match is None or not int(match[1]) or not int(match[2]):
            raise UsageError(f"--size must be WIDTHxHEIGHT, such as 128x72, got {text!r}")
        return int(match[2]), int(match[1])


def check_flags(args: ImportArgs, layout: LayoutName) -> None:
    """Raise UsageError for the first flag whose value cannot work."""
    fps = args.resolved_fps(layout)
    args.resolved_size(layout)

    def is_number(value: float | None) -> bool:
        return value is None or math.isfinite(value)

    per_frame = CONTROL_RATE_HZ / fps if fps > 0 else 0.0
    divides = layout == "short-metaworld" or (per_frame >= 1 and per_frame.is_integer())
    rules = [
        ("tolerance_ms", 0 < args.tolerance_ms < math.inf, "above 0"),
        ("view_tolerance_ms", 0 < args.view_tolerance_ms < math.inf, "above 0"),
        ("fps", 0 < fps < math.inf, "above 0"),
        ("fps", divides, f"a divisor of the control rate, {CONTROL_RATE_HZ:.0f}"),
        ("quality", 1 <= args.quality <= 100, "1 ... 100"),
        ("views", 0 < len(args.views) == len(set(args.views)), "at least one name, none of them twice"),
        ("views", all(re.fullmatch(r"view\d+", view) for view in args.views), "names such as view1"),
        ("camera", bool(args.camera) and "/" not in args.camera, "a name without '/'"),
        ("instruction", bool(args.instruction.strip()), "a text"),
        ("camera_offset", is_number(args.camera_offset), "a number of seconds"),
        ("sensor_offset", is_number(args.sensor_offset), "a number of seconds"),
        ("min_frames", args.min_frames >= 1, "1 or more"),
    ]
    for name, holds, wanted in rules:
        if not holds:
            raise UsageError(f"--{name.replace('_', '-')} must be {wanted}, got {getattr(args, name)}")
