"""From a robot's name to the robot; each driver is imported only when it is asked for."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable

from clients.robots.base import Robot, RobotRequest
from policy.errors import UsageError

# Name -> module and factory. A robot of your own needs no entry here: name it the same way with --robot.
ROBOTS: dict[str, str] = {
    "metaworld": "clients.robots.metaworld:make",
    "needle-rig": "clients.robots.needle_rig:make",
    "null": "clients.robots.null:make",
}
_PARTS = ("info", "reset", "observe", "act", "hold", "done", "success", "close")


def make_robot(name: str, request: RobotRequest) -> Robot:
    """The robot of this name.

    Args:
        name: one of `ROBOTS`, or ``MODULE:FACTORY`` of your own, found where Python finds modules or in the
            current directory; the factory takes a `RobotRequest` and returns the robot.
        request: what the factory is given.

    Raises:
        UsageError: there is no such robot, it lacks a part, or what it needs is not there.
    """
    robot = _factory(name)(request)
    missing = [part for part in _PARTS if not hasattr(type(robot), part) and not hasattr(robot, part)]
    if missing:
        raise UsageError(
            f"robot {name}: {type(robot).__name__} lacks {', '.join(missing)}; see docs/add-a-robot.md"
        )
    return robot


def _factory(name: str) -> Callable[[RobotRequest], Robot]:
    module_name, separator, factory_name = ROBOTS.get(name, name).partition(":")
    if not (module_name and separator and factory_name):
        raise UsageError(
            f"robot {name}: there are {', '.join(ROBOTS)}; name one of your own as MODULE:FACTORY"
        )
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except (ImportError, SyntaxError) as error:
        raise UsageError(f"robot {name}: cannot import {module_name}: {error}") from error
    factory = getattr(module, factory_name, None)
    if not callable(factory):
        raise UsageError(f"robot {name}: {module_name} has no function {factory_name}")
    return factory
