"""Prove that MuJoCo renders offscreen here by rendering a frame; as root, install what is missing for it.

A GL library that loads proves little: without Mesa's drivers beside it, the first context fails.
"""

from __future__ import annotations

import os
import subprocess
import sys

from system_packages import Need, ensure

from clients.robots.offscreen_gl import INSTALL_LINE, select_gl_backend
from policy.errors import UsageError

_SCENE = """
<mujoco><worldbody>
  <light pos="0 0 3"/><geom type="sphere" size=".2" rgba="1 0 0 1"/>
  <camera name="eye" pos="0 -1 0" xyaxes="1 0 0 0 0 1"/>
</worldbody></mujoco>
"""


def render_frame() -> None:
    """Render a red ball on black.

    Raises:
        UsageError: no GL library.
        RuntimeError: the frame does not show the ball.
    """
    select_gl_backend()
    import mujoco

    model = mujoco.MjModel.from_xml_string(_SCENE)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    with mujoco.Renderer(model, 64, 64) as renderer:
        renderer.update_scene(data, "eye")
        frame = renderer.render()
    middle, corner = frame[32, 32], frame[0, 0]
    if int(middle[0]) < 60 or corner.any():
        raise RuntimeError(f"a red ball on black came out as {middle} in the middle, {corner} in a corner")


def renders() -> str | None:
    """None when a process of its own renders a frame (a driver can crash it), else the last thing it said."""
    command = [sys.executable, __file__, "--render"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return None
    said = done.stderr.strip().splitlines()
    return said[-1] if said else f"rendering ended with code {done.returncode}"


def need() -> Need:
    """What `make demo` and `make test` ask of this machine."""
    backend = os.environ.get("MUJOCO_GL")
    hint = f" (MUJOCO_GL={backend} is set; unset it to let TinyVLA choose)" if backend else ""
    return Need("offscreen rendering", renders, (INSTALL_LINE,), hint)


def main(argv: list[str]) -> int:
    """0 when a frame can be rendered, 2 when not."""
    try:
        if argv == ["--render"]:
            render_frame()
        else:
            ensure(need())
    except UsageError as error:
        print(f"check_gl: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
