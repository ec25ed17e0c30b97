"""The simulated rig's clock: what it says of a moment is never ahead of that moment."""

from __future__ import annotations

import threading
import time
from collections import Counter

import pytest

from clients.rig_sim.live import LiveRig
from clients.rig_sim.parameters import load_parameters
from clients.rig_sim.sim import RigSim
from clients.robots.rig_wire import Command, RobotState

LAYING_OUT_S = 0.08  # as long as a slow machine takes for a scene: eight ticks


class Listener:
    """Stands in for the rig's sockets: starts a scene after ten ticks and keeps every state."""

    def __init__(self, stop: threading.Event) -> None:
        self.counts: Counter[str] = Counter()
        self.states: list[RobotState] = []
        self._stop = stop

    def commands(self) -> list[Command]:
        return [Command("start", seed=3)] if len(self.states) == 10 else []

    def send_state(self, state: RobotState) -> None:
        self.states.append(state)
        if len(self.states) == 40:
            self._stop.set()

    def send_camera(self, frame: object) -> None: ...
    def send_status(self, status: object) -> None: ...
    def send_sensor(self, records: object) -> None: ...


def test_a_scene_that_takes_long_to_lay_out_puts_no_measurement_into_the_future(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stop = threading.Event()
    listener = Listener(stop)
    rig = LiveRig(load_parameters(), listener)  # type: ignore[arg-type]
    reset = RigSim.reset

    def slow_reset(sim: RigSim, seed: int) -> None:
        reset(sim, seed)
        time.sleep(LAYING_OUT_S)

    monkeypatch.setattr(RigSim, "reset", slow_reset)
    monkeypatch.setattr(LiveRig, "_paint", lambda rig: [*iter(rig._shots.get, None)])  # looks at no shot
    rig.run(stop)

    assert len(listener.states) == 40
    ahead = [state.origin_time - state.send_time for state in listener.states]
    assert max(ahead) < 2e-3, ahead
