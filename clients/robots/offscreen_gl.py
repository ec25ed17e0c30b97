"""Choose MuJoCo's offscreen GL backend: EGL first, OSMesa next, else say what to install."""

from __future__ import annotations

import ctypes
import importlib
import os
import sys
from typing import Any

from policy.errors import UsageError

INSTALL_LINE = "apt-get install -y libegl1 libegl-mesa0 libgl1-mesa-dri libopengl0"
_LIBRARIES = {"egl": "libEGL.so.1", "osmesa": "libOSMesa.so.8"}


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def select_gl_backend() -> str:
    """Set `MUJOCO_GL` unless the user did; return the backend's name.

    Raises:
        UsageError: neither EGL nor OSMesa is installed; the message holds the one line that installs EGL.
    """
    chosen = os.environ.get("MUJOCO_GL")
    if chosen:
        return chosen
    for backend, library in _LIBRARIES.items():
        if _loads(library):
            os.environ["MUJOCO_GL"] = backend
            # MuJoCo reads the variable once, on import; a program that imported it first would get a window's context.
            if "mujoco.gl_context" in sys.modules:
                importlib.reload(sys.modules["mujoco.gl_context"])
            return backend
    raise UsageError(f"no offscreen GL library found (EGL or OSMesa); install one with: {INSTALL_LINE}")


def plain_renderer(mujoco: Any, model: Any, height: int, width: int) -> Any:
    """A `mujoco.Renderer` without shadows and reflections, which cost most of a frame's time and tell nothing.

    Args:
        mujoco: the module, which only the simulators' own files import.
        model: `mujoco.MjModel`.
        height: pixels.
        width: pixels.

    Raises:
        UsageError: the GL library that is there does not work.
    """
    try:
        renderer = mujoco.Renderer(model, height, width)
    except Exception as error:  # the GL layers raise types of their own
        raise UsageError(
            f"offscreen rendering failed ({error}); install a GL library with: {INSTALL_LINE}"
        ) from error
    flags = renderer.scene.flags
    flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
    flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
    return renderer
