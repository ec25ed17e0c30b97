"""`--limits limits.toml`: the operator's own safety limits.

Names are those of the policy's contract; every entry may be left out.

    [action.hand_dx]          # what is left out keeps the policy's own bound, or is unlimited
    low = -0.5
    high = 0.5
    max_change = 0.4          # from one command to the next
    max_per_step = 0.5        # motion in one control step
    max_per_second = 20.0     # motion within any second

    [workspace.hand_z]        # a state entry that is a position, and its box
    low = 0.04
    high = 0.45
    moved_by = "hand_dz"      # the action's dimension that moves it
    scale = 0.01              # state units that one unit of motion moves it: metres per centimetre

    [stale_after]             # seconds; inf: never
    camera = 0.5
    state = 0.2
    sensor = 0.5
    plan = 1.0
    control = 0.1             # the control thread's beat

    [respond]                 # clamp, hold or stop; stop ends the episode
    workspace = "stop"
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from clients.safety_limits import RESPONSES, Cause, Response, SafetyLimits, Workspace
from policy.errors import UsageError
from policy.spec import PolicySpec


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Action(_Table):
    low: float | None = None
    high: float | None = None
    max_change: float | None = Field(default=None, gt=0)
    max_per_step: float | None = Field(default=None, gt=0)
    max_per_second: float | None = Field(default=None, gt=0)


class _Position(_Table):
    low: float
    high: float
    moved_by: str
    scale: float


class _StaleAfter(_Table):
    camera: float | None = Field(default=None, gt=0)
    state: float | None = Field(default=None, gt=0)
    sensor: float | None = Field(default=None, gt=0)
    plan: float | None = Field(default=None, gt=0)
    control: float | None = Field(default=None, gt=0)


class _Limits(_Table):
    action: dict[str, _Action] = {}
    workspace: dict[str, _Position] = {}
    stale_after: _StaleAfter = _StaleAfter()
    respond: dict[Cause, Response] = {}


def read_limits(path: Path, spec: PolicySpec, base: SafetyLimits) -> SafetyLimits:
    """`base`, tightened by the file.

    Raises:
        UsageError: the file cannot be read, or names something that the policy does not have, in one line.
    """
    try:
        asked = _Limits.model_validate(tomllib.loads(path.read_text()))
        return _applied(asked, spec, base)
    except OSError as error:
        raise UsageError(f"--limits {path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise UsageError(f"--limits {path}: not a text file") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"--limits {path}: not TOML: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"--limits {path}: {where}: {first['msg']}") from None
    except _Mistake as mistake:
        raise UsageError(f"--limits {path}: {mistake}") from None


class _Mistake(Exception):
    pass


def _applied(asked: _Limits, spec: PolicySpec, base: SafetyLimits) -> SafetyLimits:
    arrays: dict[str, Any] = {
        name: np.array(getattr(base, name), np.float32)
        for name in ("low", "high", "max_change", "max_per_step", "max_per_second")
    }
    for name, own in asked.action.items():
        dim = _index("action", name, spec.action.names)
        for key, value in own:
            if value is None:
                continue
            if np.isnan(value):  # neither more nor less than anything: it would limit nothing
                raise _Mistake(f"action.{name}.{key}: expected a number, got nan")
            # Never wider than what the policy's contract allows.
            tighten = max if key == "low" else min
            arrays[key][dim] = tighten(arrays[key][dim], np.float32(value))
        if not arrays["low"][dim] <= arrays["high"][dim]:
            raise _Mistake(
                f"action.{name}: low {arrays['low'][dim]:g} lies above high {arrays['high'][dim]:g}; "
                f"the policy's own bounds are {base.low[dim]:g} ... {base.high[dim]:g}"
            )
    for cause, response in asked.respond.items():
        if cause == "uncertain":
            raise _Mistake("respond.uncertain: --on-uncertain says that")
        if response not in RESPONSES[cause]:
            raise _Mistake(f"respond.{cause}: expected {' or '.join(RESPONSES[cause])}, got {response}")
    limits = replace(
        base, **arrays, workspace=_workspace(asked.workspace, spec), responses={**base.responses, **asked.respond}
    )  # fmt: skip
    fields = {
        "camera": "stale_camera_s", "state": "stale_state_s", "sensor": "stale_sensor_s", "plan": "stale_plan_s",
        "control": "watchdog_s",
    }  # fmt: skip
    times = {fields[key]: value for key, value in asked.stale_after if value is not None}
    return replace(limits, **times)


def _workspace(asked: Mapping[str, _Position], spec: PolicySpec) -> Workspace | None:
    if not asked:
        return None
    for name, entry in asked.items():
        if not entry.low < entry.high:
            raise _Mistake(f"workspace.{name}: low {entry.low:g} is not below high {entry.high:g}")
        if not entry.scale or not np.isfinite(entry.scale):
            raise _Mistake(f"workspace.{name}: scale must be a finite number other than 0")
    entries: list[_Position] = list(asked.values())

    def column(key: str) -> Any:
        return np.array([getattr(entry, key) for entry in entries], np.float64)

    return Workspace(
        state=np.array([_index("workspace", name, spec.state.names) for name in asked]),
        action=np.array(
            [
                _index(f"workspace.{name}: moved_by", entry.moved_by, spec.action.names)
                for name, entry in asked.items()
            ]
        ),
        low=column("low"),
        high=column("high"),
        scale=column("scale"),
    )


def _index(where: str, name: str, names: tuple[str, ...]) -> int:
    if name not in names:
        raise _Mistake(f"{where}: the policy has no {name!r}; it has {', '.join(names)}")
    return names.index(name)
