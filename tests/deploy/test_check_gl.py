"""Offscreen rendering is proven by a frame; what is missing is installed where that is allowed, else named."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from clients.robots.offscreen_gl import INSTALL_LINE
from deploy.check_gl import ensure
from policy.errors import UsageError

SCRIPT = Path(__file__).resolve().parents[2] / "deploy" / "check_gl.py"


def test_a_frame_is_rendered_here() -> None:
    subprocess.run([sys.executable, SCRIPT], check=True)


def test_a_backend_that_cannot_render_is_no_success() -> None:
    """The library is there, but no driver to it: one line that names the cure, and no traceback."""
    environment = os.environ | {"MUJOCO_GL": "egl", "__EGL_VENDOR_LIBRARY_DIRS": "/nonexistent"}
    done = subprocess.run(
        [sys.executable, SCRIPT, "--render"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0


def test_nothing_is_installed_where_rendering_works() -> None:
    ensure(lambda: None, may_install=True, install=lambda: pytest.fail("installed"))


def test_what_is_missing_is_installed_where_that_is_allowed() -> None:
    complaints = [None, "no drivers"]
    installed: list[bool] = []
    ensure(complaints.pop, may_install=True, install=lambda: installed.append(True))
    assert installed == [True]
    assert complaints == []


@pytest.mark.parametrize("may_install", [True, False])
def test_one_line_names_what_to_install_when_nothing_helps(may_install: bool) -> None:
    with pytest.raises(UsageError) as refusal:
        ensure(lambda: "no drivers", may_install=may_install, install=lambda: None)
    assert INSTALL_LINE in str(refusal.value)
    assert "no drivers" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_without_the_right_to_install_nothing_is_installed() -> None:
    with pytest.raises(UsageError):
        ensure(lambda: "no drivers", may_install=False, install=lambda: pytest.fail("installed"))
