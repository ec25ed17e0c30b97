"""Offscreen rendering is proven by a frame, and where it fails there is a line that helps."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from clients.robots.offscreen_gl import INSTALL_LINE
from deploy.check_gl import need

COMMAND = [sys.executable, str(Path(__file__).resolve().parents[2] / "deploy" / "check_gl.py")]


def test_a_frame_is_rendered_here() -> None:
    subprocess.run(COMMAND, check=True)


def test_a_backend_that_cannot_render_is_no_success() -> None:
    """The library is there, but no driver to it."""
    environment = os.environ | {"MUJOCO_GL": "egl", "__EGL_VENDOR_LIBRARY_DIRS": "/nonexistent"}
    done = subprocess.run(
        [*COMMAND, "--render"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0


def test_the_line_that_helps_installs_mesa_and_a_forced_backend_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    assert need().install_lines == (INSTALL_LINE,)
    assert "MUJOCO_GL=glfw" in need().hint
