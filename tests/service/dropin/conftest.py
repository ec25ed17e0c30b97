"""Servers of two policies, as peers' robots find them, and what such robots send."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from policy.null import NullPolicy, null_spec
from service.dropin.aliases import read_aliases
from service.running import RunningServer

TOKEN = "s3cret"
# A LIBERO-like robot of two cameras, whose state and action come in parts.
ALIASES = (
    "observation/image=front",
    "observation/wrist_image=wrist",
    "full_image=front",
    "wrist_image=wrist",
    "video.ego_view=front",
    "video.wrist_view=wrist",
    "state.arm=state[0:3]",
    "state.gripper=state[3:4]",
    "action.arm=action[0:3]",
    "action.gripper=action[3:4]",
)


@pytest.fixture(scope="session")
def one_camera() -> Iterator[RunningServer]:
    """A policy of one camera, and no alias: the defaults have to do."""
    with RunningServer(lambda: NullPolicy(null_spec(size=16)), groot_port=0) as server:
        yield server


@pytest.fixture(scope="session")
def two_cameras() -> Iterator[RunningServer]:
    """A policy of two cameras behind a token, with an alias table."""
    spec = null_spec(cameras=("front", "wrist"), size=16, instruction_required=True)
    with RunningServer(
        lambda: NullPolicy(spec), groot_port=0, token=TOKEN, aliases=read_aliases(ALIASES)
    ) as server:
        yield server


@pytest.fixture(scope="session")
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (20, 24, 3), np.uint8)
