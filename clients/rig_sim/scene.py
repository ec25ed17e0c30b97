"""Pictures of the simulated rig: the five views of one moment, rendered by MuJoCo."""

from __future__ import annotations

import atexit
from collections.abc import Sequence

import numpy as np

from clients.rig_sim.geometry import matrix_quaternion, perpendicular, turn_matrix
from clients.rig_sim.kinematics import ArmKinematics
from clients.rig_sim.layout import Layout, nominal_entry
from clients.rig_sim.parameters import RigParameters
from clients.rig_sim.scene_xml import scene_xml
from clients.rig_sim.sim import ScenePose
from clients.robots.needle_rig_contract import VIEWS
from clients.robots.offscreen_gl import plain_renderer, select_gl_backend
from policy.errors import UsageError

# The hubs' colours tell the gauges apart, as they do in practice.
_CAP_COLOURS = {"23G": (0.93, 0.50, 0.13, 1.0), "25G": (0.20, 0.62, 0.48, 1.0)}


class RigRenderer:
    """Renders layouts and poses. Owns a GL context, which belongs to the thread that made it.

    Raises:
        UsageError: an unknown view, MuJoCo missing, or no offscreen GL library.
    """

    def __init__(
        self,
        parameters: RigParameters,
        views: Sequence[str] = VIEWS,
        *,
        height: int | None = None,
        width: int | None = None,
    ) -> None:
        unknown = [view for view in views if view not in VIEWS]
        if unknown:
            raise UsageError(f"the needle rig has no view {unknown[0]!r}; it has {', '.join(VIEWS)}")
        select_gl_backend()
        try:
            import mujoco
        except ImportError as error:
            raise UsageError(
                f"MuJoCo is not installed ({error}); run: pip install -c constraints.txt -e '.[sim]'"
            ) from error
        self.height, self.width = height or parameters.cameras.height, width or parameters.cameras.width
        self._mujoco, self._parameters, self._views = mujoco, parameters, tuple(views)
        self._model = mujoco.MjModel.from_xml_string(scene_xml(parameters))
        self.data = mujoco.MjData(self._model)
        self._offsets = np.array([link[0] for link in ArmKinematics(parameters.arm).links])
        self._pivot = nominal_entry(parameters)
        self._layout: Layout | None = None
        self._renderer = plain_renderer(mujoco, self._model, self.height, self.width)
        # MuJoCo terminates EGL at exit; a context that still lives then prints errors.
        atexit.register(self.close)

    def render(
        self, layout: Layout, pose: ScenePose, views: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """View -> uint8 [height, width, 3] RGB."""
        self.place(layout, pose)
        images = {}
        for view in views or self._views:
            self._renderer.update_scene(self.data, camera=view)
            images[view] = self._renderer.render().copy()
        return images

    def place(self, layout: Layout, pose: ScenePose) -> None:
        """Bring the model's bodies to where they are."""
        model, data = self._model, self.data
        if layout is not self._layout:
            self._lay_out(layout)
        data.joint("joint1")  # raises where the model is another one
        data.qpos[:] = np.radians(pose.joints) + self._offsets
        data.mocap_pos[self._mocap("eye")] = pose.eye_centre
        data.mocap_quat[self._mocap("eye")] = matrix_quaternion(turn_matrix(pose.eye_turn))
        self._mujoco.mj_kinematics(model, data)
        self._mujoco.mj_camlight(model, data)

    def close(self) -> None:
        """Free the GL context; may be called twice."""
        atexit.unregister(self.close)
        self._renderer.close()

    def _lay_out(self, layout: Layout) -> None:
        model, data = self._model, self.data
        self._layout = layout
        base = np.array(self._parameters.arm.base)
        place = self._pivot + layout.base_offset + layout.base_turn @ (base - self._pivot)
        data.mocap_pos[self._mocap("base")] = place
        data.mocap_quat[self._mocap("base")] = matrix_quaternion(layout.base_turn)
        model.body("tool").pos[:] = layout.tool_offset
        outward = (-layout.axis[0], -layout.axis[1], -layout.axis[2])
        first, second = perpendicular(outward)
        model.body("trocar").pos[:] = layout.entry
        model.body("trocar").quat[:] = matrix_quaternion(np.array([first, second, outward]).T)
        model.geom("hole").size[0] = layout.inner_radius
        model.geom("funnel").size[0] = layout.capture
        model.geom("cap").rgba[:] = _CAP_COLOURS[layout.gauge]

    def _mocap(self, body: str) -> int:
        return int(self._model.body(body).mocapid[0])
