"""The rig's scene as MuJoCo's XML: arm, needle, eye, trocar, drape and the five cameras. Lengths in mm."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import numpy as np

from clients.rig_sim.kinematics import ArmKinematics
from clients.rig_sim.layout import nominal_entry
from clients.rig_sim.parameters import RigParameters

Span = Literal["span", "close_span", "overview_span"]

# Radii of the arm's links, mm; looks only.
_LINK_RADII = (38.0, 30.0, 28.0, 24.0, 18.0, 15.0)
# Of each view: azimuth and elevation from the trocar, degrees (0: from the arm's far side, 90: from the eye's crown),
# which span it has, and what it looks at: so many times as far from the globe's middle as the nominal entry.
_VIEWS: tuple[tuple[str, float, float, Span, float], ...] = (
    ("view1", 5.0, 12.0, "span", 1.1),
    ("view2", -60.0, 12.0, "close_span", 1.04),
    ("view3", -20.0, 68.0, "span", 1.1),
    ("view4", -150.0, 25.0, "close_span", 1.04),
    ("view5", -30.0, 30.0, "overview_span", 1.1),
)


def scene_xml(parameters: RigParameters) -> str:
    """The model; everything that changes with an episode is set on it afterwards."""
    cameras = parameters.cameras
    eyes = "\n".join(_camera(parameters, *view) for view in _VIEWS)
    return f"""
<mujoco model="needle rig">
  <compiler angle="radian" boundmass="1" boundinertia="1"/>
  <option gravity="0 0 0"/>
  <statistic extent="100" center="0 0 0"/>
  <visual>
    <global offwidth="{max(1280, cameras.width)}" offheight="{max(720, cameras.height)}"/>
    <map znear="0.1" zfar="12"/>
    <headlight ambient="0.35 0.35 0.35" diffuse="0.35 0.35 0.35" specular="0.1 0.1 0.1"/>
    <quality offsamples="4" shadowsize="0"/>
  </visual>
  <asset>
    <material name="white" rgba="0.90 0.89 0.87 1" specular="0.3" shininess="0.4"/>
    <material name="steel" rgba="0.20 0.21 0.25 1" specular="0.6" shininess="0.6"/>
    <material name="arm" rgba="0.80 0.81 0.83 1" specular="0.3"/>
    <material name="holder" rgba="0.15 0.15 0.17 1" specular="0.4"/>
    <material name="drape" rgba="0.45 0.68 0.66 1" specular="0"/>
    <material name="iris" rgba="0.25 0.38 0.50 1" specular="0.2"/>
    <material name="black" rgba="0.02 0.02 0.02 1" specular="0"/>
    <material name="vessel" rgba="0.72 0.25 0.22 1" specular="0"/>
  </asset>
  <default>
    <geom contype="0" conaffinity="0"/>
  </default>
  <worldbody>
    <light directional="true" pos="0 0 300" dir="0.3 0.2 -1" diffuse="0.5 0.5 0.5" castshadow="false"/>
    <light directional="true" pos="-200 -200 200" dir="0.6 0.7 -0.5" diffuse="0.3 0.3 0.3" castshadow="false"/>
    <geom name="drape" type="box" size="400 400 2" pos="0 0 -3" material="drape"/>
{eyes}
    <body name="eye" mocap="true">
{_eye(parameters)}
      <body name="trocar">
{_trocar(parameters)}
      </body>
    </body>
    <body name="base" mocap="true">
      <geom type="cylinder" size="45 20" pos="0 0 20" material="arm"/>
{_arm(parameters)}
    </body>
  </worldbody>
</mujoco>"""


def _camera(
    parameters: RigParameters, name: str, azimuth: float, elevation: float, of: Span, out: float
) -> str:
    cameras = parameters.cameras
    focus = nominal_entry(parameters) * out
    distance = cameras.distance * (1.6 if of == "overview_span" else 1.0)
    span = getattr(cameras, of)
    az, el = math.radians(azimuth), math.radians(elevation)
    back = np.array([math.cos(el) * math.cos(az), math.cos(el) * math.sin(az), math.sin(el)])
    right = np.cross([0.0, 0.0, 1.0], back)
    right /= np.linalg.norm(right)
    up = np.cross(back, right)
    field = math.degrees(2 * math.atan(span / 2 / distance))
    return (
        f'    <camera name="{name}" pos="{_text(focus + back * distance)}" '
        f'xyaxes="{_text([*right, *up])}" fovy="{field:.5f}"/>'
    )


def _eye(parameters: RigParameters) -> str:
    r = parameters.eye.radius
    # Iris and pupil are flat balls that reach through the globe; the vessels let its turning be seen.
    vessels = "\n".join(
        f'      <geom type="capsule" size="0.09" fromto="{_text(_on_globe(r, a, p))} {_text(_on_globe(r, b, q))}" '
        'material="vessel"/>'
        for a, p, b, q in (
            (-120, 32, -118, 48), (-118, 48, -112, 62), (-62, 30, -66, 46), (-66, 46, -60, 60), (-92, 50, -88, 64),
            (-150, 36, -152, 55), (-30, 34, -28, 52), (20, 35, 16, 56), (-118, 48, -124, 60), (-66, 46, -74, 58),
        )
    )  # fmt: skip
    return f"""      <geom type="sphere" size="{r}" material="white"/>
      <geom type="ellipsoid" size="{0.5 * r} {0.5 * r} 1.2" pos="0 0 {0.9 * r}" material="iris"/>
      <geom type="ellipsoid" size="{0.2 * r} {0.2 * r} 1.3" pos="0 0 {0.9 * r}" material="black"/>
{vessels}"""


def _on_globe(radius: float, azimuth: float, polar: float) -> np.ndarray:
    a, p = math.radians(azimuth), math.radians(polar)
    return np.array([math.sin(p) * math.cos(a), math.sin(p) * math.sin(a), math.cos(p)]) * (radius - 0.03)


def _trocar(parameters: RigParameters) -> str:
    """z points out of the eye, the origin is the middle of the cap's top; sizes are set by gauge."""
    t = parameters.trocar
    half = t.cap_height / 2
    return f"""        <geom name="cap" type="cylinder" size="{t.cap_radius} {half}" pos="0 0 {-half}"/>
        <geom name="funnel" type="cylinder" size="{t.capture_23g} 0.01" pos="0 0 0.01" rgba="0.85 0.85 0.8 1"/>
        <geom name="hole" type="cylinder" size="{t.inner_diameter_23g / 2} 0.01" pos="0 0 0.03" material="black"/>
        <geom type="cylinder" size="{t.inner_diameter_23g / 2 + 0.05} {t.cannula_length / 2}"
              pos="0 0 {-t.cannula_length / 2 - t.cap_height}" material="steel"/>
        <site name="entry" pos="0 0 0" size="0.01" rgba="0 0 0 0"/>"""


def _arm(parameters: RigParameters) -> str:
    """The chain of `ArmKinematics`: each body turns about the z axis of the frame before it."""
    links = ArmKinematics(parameters.arm).links
    opening, closing = [], []
    place = ""
    for number, ((_, d, a, alpha), radius) in enumerate(zip(links, _LINK_RADII, strict=True), 1):
        opening.append(f'      <body name="link{number}"{place}><joint name="joint{number}" axis="0 0 1"/>')
        closing.append("      </body>")
        if number < len(links):
            opening += _link_geoms(d, a, radius)
            place = f' pos="{a:.6f} 0 {d:.6f}" euler="{alpha:.9f} 0 0"'
    opening.append(_tool(parameters))
    return "\n".join([*opening, *closing])


def _link_geoms(d: float, a: float, radius: float) -> Iterable[str]:
    geom = '        <geom type="capsule" size="{}" fromto="{}" material="arm"/>'
    if abs(d) > 1:
        yield geom.format(radius, _text([0, 0, 0, 0, 0, d]))
    if abs(a) > 1:
        yield geom.format(radius, _text([0, 0, d, a, 0, d]))


def _tool(parameters: RigParameters) -> str:
    arm, needle = parameters.arm, parameters.needle
    flange, tip = arm.d6, arm.d6 + arm.tool_length
    collar = tip - needle.length
    geom = '          <geom type="cylinder" size="{}" fromto="{}" material="{}"/>'
    parts = [
        geom.format(15.0, _text([0, 0, 20, 0, 0, flange]), "arm"),
        geom.format(5.0, _text([0, 0, flange, 0, 0, collar - 16]), "holder"),
        geom.format(2.0, _text([0, 0, collar - 16, 0, 0, collar]), "holder"),
        geom.format(needle.diameter / 2, _text([0, 0, collar, 0, 0, tip]), "steel"),
    ]
    inside = "\n".join(parts)
    return f"""        <body name="tool">
{inside}
          <site name="tip" pos="0 0 {tip}" size="0.01" rgba="0 0 0 0"/>
        </body>"""


def _text(numbers: Iterable[float]) -> str:
    return " ".join(f"{number:.6f}" for number in numbers)
