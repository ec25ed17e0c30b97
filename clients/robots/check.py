"""`tinyvla check-robot`: whether a robot keeps what `clients.robots.base.Robot` promises, before a policy drives it.

It looks and holds; only with --act does it send an action, the one that stands still.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from clients.hold import hold_action
from clients.pacing import Pacer
from clients.robots.base import Robot, RobotObservation, RobotRequest
from clients.robots.make import make_robot
from policy.errors import UsageError
from policy.null import null_spec
from service.flags import parse_flags

# A robot that has no observation by then has a camera or a stream that does not come.
FIRST_WITHIN_S = 10.0
# Of an observation when it is returned.
OLDEST_S = 1.0


@dataclass(frozen=True)
class CheckArgs:
    """Check a robot's driver: shapes, types, times and threads, a line each."""

    robot: Annotated[str, tyro.conf.Positional]
    """MODULE:FACTORY of your own, or a name, as --robot of the receiver."""
    cameras: tuple[str, ...] = ()
    """Cameras that a policy will look at, for robots that want to know."""
    task: str = ""
    """For robots that have several."""
    robot_config: Path | None = None
    """File of the robot's own settings, for robots that have any."""
    seconds: float = 2.0
    """How long it is made to hold."""
    act: bool = False
    """Send actions too: the one that stands still."""


def main(argv: Sequence[str]) -> int:
    """Entry of `tinyvla check-robot`; 1 when a promise is broken."""
    args = parse_flags(CheckArgs, argv, "tinyvla check-robot")
    if not 0.1 <= args.seconds <= 3600:
        raise UsageError(f"--seconds: expected 0.1 ... 3600, got {args.seconds:g}")
    spec = null_spec(cameras=args.cameras or ("camera",))
    robot = make_robot(args.robot, RobotRequest(args.task, spec, args.robot_config))
    broken = 0
    try:
        for what, wrong in checks(robot, args.seconds, act=args.act):
            broken += wrong is not None
            print(f"{'ok    ' if wrong is None else 'BROKEN'}  {what}{'' if wrong is None else f': {wrong}'}")
    finally:
        robot.close()
    print(f"{broken} promises broken" if broken else "the receiver can drive this robot")
    return 1 if broken else 0


def checks(robot: Robot, seconds: float, *, act: bool = False) -> Iterator[tuple[str, str | None]]:
    """What was checked, and what is wrong with it; ends early where the rest would make no sense."""
    wrong = _info(robot)
    yield "info: names, kind, rate and resting command go together", wrong
    if wrong is not None:
        return
    robot.reset(0)
    seen = _first(robot)
    yield "observe: something within 10 s of reset", None if seen is not None else "still None"
    if seen is None:
        return
    yield "observe: every camera as uint8 [H, W, 3]", _images(robot, seen)
    yield "observe: the state as finite floats, one per name", _state(robot, seen)
    yield "observe: captured_at on time.monotonic(), not old", _age(seen)
    yield "observe: control_step 0 after reset", _step(seen, 0)
    still = hold_action(robot.info.action_kind, robot.info.resting_command, robot.info.kept_on_hold)
    before = _copy(seen)
    yield from _held(robot, still, seconds)
    later = robot.observe()
    yield "observe: goes on while it holds", None if later is not None else "None"
    if later is None:
        return
    yield "observe: what it returned before is not changed afterwards", _unchanged(seen, before)
    yield "hold: counts no control step", _step(later, 0)
    if act:
        for _ in range(3):
            robot.act(still)
            time.sleep(1 / robot.info.control_rate_hz)
        acted = _until(robot, lambda o: o.control_step == 3)
        yield "act: each counts one control step", _step(acted, 3) if acted else "None"


def _info(robot: Robot) -> str | None:
    info = robot.info
    if info.action_kind not in ("delta", "absolute", "velocity"):
        return f"action_kind is {info.action_kind!r}"
    if not info.control_rate_hz > 0 or not info.frame_rate_hz > 0:
        return "control_rate_hz and frame_rate_hz must be positive"
    for field in ("cameras", "state_names", "action_names"):
        names = getattr(info, field)
        if len(set(names)) != len(names):
            return f"{field} repeats a name: {', '.join(names)}"
    width = len(info.action_names)
    if np.shape(info.resting_command) != (width,) or not np.isfinite(info.resting_command).all():
        return f"resting_command must be [{width}] and finite, one number per action name"
    if any(not 0 <= dim < width for dim in info.kept_on_hold):
        return f"kept_on_hold names dimensions of {width}: {info.kept_on_hold}"
    return None


def _first(robot: Robot) -> RobotObservation | None:
    return _until(robot, lambda observation: True)


def _until(robot: Robot, wanted: Callable[[RobotObservation], bool]) -> RobotObservation | None:
    """The first observation like this, or the last one seen when time is up."""
    until, seen = time.monotonic() + FIRST_WITHIN_S, None
    while time.monotonic() < until:
        seen = robot.observe()
        if seen is not None and wanted(seen):
            return seen
        time.sleep(0.02)
    return seen


def _images(robot: Robot, seen: RobotObservation) -> str | None:
    missing = set(robot.info.cameras) - set(seen.images)
    if missing:
        return f"no image of {', '.join(sorted(missing))}"
    for name, image in seen.images.items():
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
            return f"{name} is {getattr(image, 'dtype', type(image).__name__)}"
        if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            return f"{name} has the shape {list(image.shape)}"
    return None


def _state(robot: Robot, seen: RobotObservation) -> str | None:
    state = np.asarray(seen.state)
    if state.shape != (len(robot.info.state_names),):
        return f"shape {list(state.shape)} for {len(robot.info.state_names)} state names"
    if state.dtype.kind != "f":
        return f"dtype {state.dtype}"
    return None if np.isfinite(state).all() else "NaN or infinity in it"


def _age(seen: RobotObservation) -> str | None:
    age = time.monotonic() - seen.captured_at
    return None if -0.001 <= age <= OLDEST_S else f"it is {age:.3f} s old"


def _step(seen: RobotObservation, wanted: int) -> str | None:
    return None if seen.control_step == wanted else f"control_step is {seen.control_step}, not {wanted}"


def _copy(seen: RobotObservation) -> dict[str, np.ndarray]:
    return {**{name: np.array(image) for name, image in seen.images.items()}, "state": np.array(seen.state)}


def _unchanged(seen: RobotObservation, before: dict[str, np.ndarray]) -> str | None:
    now = _copy(seen)
    changed = [name for name, array in before.items() if not np.array_equal(array, now[name])]
    return f"{', '.join(changed)} changed: hand out copies" if changed else None


def _held(robot: Robot, command: np.ndarray, seconds: float) -> Iterator[tuple[str, str | None]]:
    """Hold at the control rate while another thread observes, as in an episode."""
    stop, failures, looks = threading.Event(), list[Exception](), [0]

    def look() -> None:
        try:
            while not stop.is_set():
                robot.observe()
                looks[0] += 1
                stop.wait(0.05)
        except Exception as error:
            failures.append(error)

    beside = threading.Thread(target=look, name="observer")
    pacer = Pacer(robot.info.control_rate_hz)
    took = []
    beside.start()
    try:
        for _ in range(max(2, round(seconds * robot.info.control_rate_hz))):
            began = pacer.wait().began
            robot.hold(command)
            took.append((time.monotonic() - began) * 1e3)
    except Exception as error:
        failures.append(error)
    finally:
        stop.set()
        beside.join()
    problem = f"{type(failures[0]).__name__}: {failures[0]}" if failures else None
    yield f"threads: hold and observe at the same time ({looks[0]} looks)", problem
    period_ms = 1e3 / robot.info.control_rate_hz
    slow = f"p99 {np.percentile(took, 99):.1f} ms of a period of {period_ms:.1f} ms" if took else "never"
    fits = bool(took) and float(np.percentile(took, 99)) < period_ms
    yield f"hold: returns within a control period ({slow})", None if fits else "it blocks control"
