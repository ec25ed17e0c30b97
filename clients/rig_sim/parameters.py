"""The simulated rig's parameters: read from one file in which each has a unit and a source, checked, typed."""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from policy.errors import UsageError

DEFAULT_FILE = Path(__file__).with_name("parameters.toml")

Range = tuple[float, float]
Joints = tuple[float, float, float, float, float, float]
Vector = tuple[float, float, float]
_LENGTHS = {Range: 2, Vector: 3, Joints: 6}

# Units and meanings stand beside the numbers in parameters.toml.


@dataclass(frozen=True)
class Arm:
    d1: float
    a2: float
    a3: float
    d4: float
    d6: float
    joint_low: Joints
    joint_high: Joints
    base: Vector
    tool_length: float
    home_roll: float
    servo_time: float
    repeatability: float
    angle_noise: float


@dataclass(frozen=True)
class Limits:
    speed: float
    turn_speed: float
    lead: float
    silence: float
    abort_force: float
    abort_lateral: float


@dataclass(frozen=True)
class Needle:
    diameter: float
    length: float


@dataclass(frozen=True)
class Eye:
    radius: float
    stiffness: float
    corner_frequency: float
    breathing: Range
    breathing_rate: Range


@dataclass(frozen=True)
class Trocar:
    polar: float
    cap_radius: float
    cap_height: float
    cannula_length: float
    inner_diameter_23g: float
    inner_diameter_25g: float
    capture_23g: float
    capture_25g: float
    wall_stiffness: float
    cap_stiffness: float


@dataclass(frozen=True)
class Valve:
    depth: float
    stiffness: Range
    rupture: Range
    friction: Range
    viscous: float


@dataclass(frozen=True)
class Retina:
    depth: Range
    stiffness: float


@dataclass(frozen=True)
class ForceSensor:
    noise: float
    bias: Range


@dataclass(frozen=True)
class Oct:
    pitch: float
    axial_width: float
    roll_off: float
    cap_level: float
    sclera_level: float
    sclera_decay: float
    valve_level: float
    retina_level: float
    retina_thickness: float
    vitreous_level: float
    jitter: float


@dataclass(frozen=True)
class EpisodeRanges:
    trocar_offset: Range
    trocar_tilt: Range
    start_lateral: Range
    start_height: Range
    start_angle: Range
    start_roll: Range
    base_offset: Range
    base_turn: Range
    tool_offset: Range


@dataclass(frozen=True)
class Task:
    target: float
    tolerance: float
    hold: float
    aligned_lateral: float
    aligned_angle: float
    aligned_height: float
    docked_depth: float
    time_limit: float


@dataclass(frozen=True)
class Cameras:
    width: int
    height: int
    quality: int
    distance: float
    span: float
    close_span: float
    overview_span: float


@dataclass(frozen=True)
class RigParameters:
    """All of it."""

    arm: Arm
    limits: Limits
    needle: Needle
    eye: Eye
    trocar: Trocar
    valve: Valve
    retina: Retina
    force_sensor: ForceSensor
    oct: Oct
    episode: EpisodeRanges
    task: Task
    cameras: Cameras


def load_parameters(path: Path = DEFAULT_FILE) -> RigParameters:
    """Read a parameter file.

    Raises:
        UsageError: unreadable, an unknown or missing entry, a value of the wrong kind, or numbers that cannot be.
    """
    try:
        told = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    sections = get_type_hints(RigParameters)
    _same_names(path, "a section", set(told), set(sections))
    parameters = RigParameters(
        **{name: _section(path, name, kind, told[name]) for name, kind in sections.items()}
    )
    _check(path, parameters)
    return parameters


T = TypeVar("T")


def _section(path: Path, name: str, kind: type[T], told: Any) -> T:
    if not isinstance(told, dict):
        raise UsageError(f"{path}: [{name}] must be a section")
    hints = get_type_hints(kind)
    _same_names(path, f"[{name}]", set(told), set(hints))
    return kind(**{key: _value(f"{path}: {name}.{key}", hint, told[key]) for key, hint in hints.items()})


def _same_names(path: Path, where: str, found: set[str], wanted: set[str]) -> None:
    for names, what in ((wanted - found, "missing"), (found - wanted, "unknown")):
        if names:
            raise UsageError(f"{path}: {where}: {what} {', '.join(sorted(names))}")


def _value(where: str, hint: Any, entry: Any) -> Any:
    if not isinstance(entry, dict) or set(entry) != {"value", "unit", "source"}:
        raise UsageError(f"{where} must have a value, a unit and a source")
    if not all(isinstance(entry[key], str) and entry[key].strip() for key in ("unit", "source")):
        raise UsageError(f"{where}: unit and source must be text")
    value = entry["value"]
    if hint is int:
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise UsageError(f"{where}: expected a whole number of 1 or more, got {value!r}")
        return value
    if hint is float:
        return _finite(where, value)
    length = _LENGTHS[hint]
    if not isinstance(value, list) or len(value) != length:
        raise UsageError(f"{where}: expected {length} numbers, got {value!r}")
    numbers = tuple(_finite(where, number) for number in value)
    if hint == Range and numbers[0] > numbers[1]:
        raise UsageError(f"{where}: a range starts with its lower end, got {value!r}")
    return numbers


def _finite(where: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UsageError(f"{where}: expected a number, got {value!r}")
    return float(value)


def _check(path: Path, parameters: RigParameters) -> None:
    """What would divide by zero or blow the integration up."""
    for section in ("limits", "needle", "eye", "trocar", "valve", "retina", "oct", "task", "cameras"):
        of = getattr(parameters, section)
        for field in fields(of):
            value = getattr(of, field.name)
            if (value[0] if isinstance(value, tuple) else value) <= 0:
                raise UsageError(f"{path}: {section}.{field.name} must be above 0")
    damping = parameters.eye.stiffness / (2 * math.pi * parameters.eye.corner_frequency)
    # Two contacts turn the eye about its centre; explicit steps of 1/1300 s must not overshoot.
    gain = 2 * parameters.trocar.wall_stiffness * parameters.eye.radius**2 / (1300 * damping)
    if gain > 1:
        raise UsageError(
            f"{path}: trocar.wall_stiffness is too large for this eye ({gain:.2f} of what integrates stably); "
            "lower it or eye.corner_frequency, or raise eye.stiffness"
        )
