"""What the needle rig is to a policy: names, units, rates and bounds, shared by driver, simulated rig and trainer.

`python -m clients.robots.needle_rig_contract` prints a contract that fits it, for `tinyvla serve --null-contract`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from policy.spec import (
    ActionSpec,
    CameraSpec,
    InstructionSpec,
    MeanStdStats,
    Normalization,
    PolicySpec,
    RangeStats,
    SamplerSpec,
    SensorSpec,
    StateSpec,
)

TASK = "needle-insertion"
INSTRUCTION = "insert the needle through the trocar and stop above the retina"

VIEWS = ("view1", "view2", "view3", "view4", "view5")
CAMERA_RATE_HZ = 5.0

# Four actions to a camera frame, as with MetaWorld. The wire fixes no rate of commands; at 20 Hz the rig's limits of
# 1 mm/s and 1 degree/s are steps of 0.05.
CONTROL_RATE_HZ = 20.0
ACTION_NAMES = ("dx", "dy", "dz", "da", "db", "dr")
ACTION_UNITS = ("mm", "mm", "mm", "deg", "deg", "deg")
ACTION_LIMIT = 0.05  # mm and degrees per action

POSE_NAMES = ("x", "y", "z", "a", "b", "r")
JOINT_NAMES = tuple(f"joint_{i}" for i in range(1, 7))
STATE_NAMES = (*POSE_NAMES, *JOINT_NAMES)
STATE_UNITS = ("mm", "mm", "mm", *("deg",) * 9)

SENSOR = "needle_tip"
SENSOR_RATE_HZ = 650.0
SENSOR_WINDOW = 65  # samples: 100 ms
ALINE_POINTS = 1025
SENSOR_CHANNELS = 1 + ALINE_POINTS  # force, then the A-line
SENSOR_UNITS = "N, then dB"


def wrap_degrees(angles: np.ndarray) -> np.ndarray:
    """The same angles in [-180, 180)."""
    return (np.asarray(angles) + 180.0) % 360.0 - 180.0


def sensor_spec() -> SensorSpec:
    """The needle tip's stream as policies take it."""
    return SensorSpec(
        name=SENSOR,
        channels=SENSOR_CHANNELS,
        window=SENSOR_WINDOW,
        rate_hz=SENSOR_RATE_HZ,
        units=SENSOR_UNITS,
        optional=True,
    )


def rig_spec(
    *, views: Sequence[str] = VIEWS, height: int = 72, width: int = 128, horizon: int = 16, name: str = "null"
) -> PolicySpec:
    """A contract that fits the rig, with unit statistics: for policies without a network."""
    dim = len(STATE_NAMES)
    return PolicySpec(
        name=name,
        cameras=tuple(CameraSpec(name=view, height=height, width=width) for view in views),
        state=StateSpec(names=STATE_NAMES, units=STATE_UNITS),
        sensors=(sensor_spec(),),
        instruction=InstructionSpec(required=False, by_task={TASK: (INSTRUCTION,)}),
        action=ActionSpec(
            names=ACTION_NAMES,
            units=ACTION_UNITS,
            kind="delta",
            low=(-ACTION_LIMIT,) * 6,
            high=(ACTION_LIMIT,) * 6,
            rate_hz=CONTROL_RATE_HZ,
        ),
        horizon=horizon,
        head="diffusion",
        sampler=SamplerSpec(),
        max_prefix=horizon // 2,
        normalization=Normalization(
            state=RangeStats(minimum=(-1.0,) * dim, maximum=(1.0,) * dim),
            action=RangeStats(minimum=(-ACTION_LIMIT,) * 6, maximum=(ACTION_LIMIT,) * 6),
            sensors={SENSOR: MeanStdStats(mean=(0.0,) * SENSOR_CHANNELS, std=(1.0,) * SENSOR_CHANNELS)},
        ),
    )


if __name__ == "__main__":
    print(rig_spec().model_dump_json(indent=1))
