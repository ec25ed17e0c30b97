"""What `--save-data` leaves is trained on at once, and the policy's contract says what the robot is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clients.inprocess import InProcessClient
from clients.receiver import Receiver, ReceiverSettings
from clients.recording import Recorder
from clients.robots.base import RobotInfo, RobotObservation
from clients.robots.null import NullRobot
from clients.tapped_robot import TappedRobot
from policy.null import NullPolicy, null_spec
from trainer.checkpoint import load_checkpoint
from trainer.train import Trainer

SPEC = null_spec(cameras=("front",), size=32, rate_hz=240.0)


class Camera(NullRobot):
    """With pictures of a size to train on."""

    def __init__(self) -> None:
        super().__init__(cameras=("front",), periods=240, control_rate_hz=240.0)
        info: RobotInfo = self.info
        object.__setattr__(info, "task", "wander")

    def observe(self) -> RobotObservation:
        image = np.random.default_rng(len(self.commands)).integers(0, 255, (32, 32, 3), dtype=np.uint8)
        return RobotObservation({"front": image}, self.state, len(self.executed), self._clock())


@pytest.mark.usefixtures("small_vision")
def test_a_recording_is_trained_on_as_it_is(tmp_path: Path, make_args):
    with Recorder(tmp_path / "data", SPEC, print) as recorder:
        robot = TappedRobot(Camera(), [recorder])
        receiver = Receiver(robot, InProcessClient(NullPolicy(SPEC)), SPEC, ReceiverSettings(seed=1))
        for seed in range(2):
            recorder.ended(receiver.run_episode(seed, session="s"))
    Trainer(make_args(dataset_dir=(tmp_path / "data",), epochs=1)).run()
    checkpoint = load_checkpoint(tmp_path / "run" / "last")
    assert checkpoint.spec.action.rate_hz == 240.0
    assert checkpoint.spec.action.names == SPEC.action.names
    assert (checkpoint.spec.action.units, checkpoint.spec.state.units) == (
        SPEC.action.units,
        SPEC.state.units,
    )
    assert checkpoint.spec.instruction.by_task == {"wander": ("do nothing in particular",)}
    assert checkpoint.state["progress"]["steps"] > 0
