"""What the rig is to a policy: windows that never look ahead, angles that wrap."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.robots.needle_rig_contract import SENSOR_RATE_HZ, SENSOR_WINDOW, rig_spec, wrap_degrees
from clients.sensor_window import causal_window

TIMES = np.arange(2000) / 650.0
VALUES = np.arange(2000.0)[:, None]


def cut(times: np.ndarray, values: np.ndarray, at: float) -> np.ndarray:
    return causal_window(times, values, at, samples=SENSOR_WINDOW, rate_hz=SENSOR_RATE_HZ)


@given(st.floats(-0.5, 4.0))
def test_a_window_never_holds_a_later_sample(at: float) -> None:
    window = cut(TIMES, VALUES, at)[:, 0]
    assert len(window) <= SENSOR_WINDOW
    assert (TIMES[window.astype(int)] <= at).all()
    assert (np.diff(window) == 1).all()
    if at > TIMES[-1]:
        return
    # And it leaves out no sample that was already there.
    assert len(window) == 0 or TIMES[int(window[-1]) + 1] > at


@pytest.mark.parametrize("step", range(1, 60))
def test_a_full_stream_gives_full_windows(step: int) -> None:
    assert len(cut(TIMES, VALUES, step / 20 + 0.1)) == SENSOR_WINDOW


def test_a_window_at_the_start_is_short() -> None:
    assert len(cut(TIMES, VALUES, -0.001)) == 0
    assert cut(TIMES, VALUES, 0.0)[:, 0].tolist() == [0]
    assert len(cut(TIMES, VALUES, 10 / 650)) == 11


def test_lost_samples_shorten_the_window_instead_of_reaching_back() -> None:
    kept = np.delete(np.arange(2000), np.arange(620, 633))
    window = cut(TIMES[kept], VALUES[kept], TIMES[650])[:, 0]
    assert SENSOR_WINDOW - 13 <= len(window) <= SENSOR_WINDOW - 12
    assert TIMES[650] - TIMES[int(window[0])] < (SENSOR_WINDOW + 1) / 650
    assert window[-1] == 650


def test_a_silent_sensor_gives_an_empty_window() -> None:
    assert cut(TIMES, VALUES, 10.0).shape == (0, 1)


@given(st.floats(-2000, 2000))
def test_wrapped_angles_are_the_same_angles(angle: float) -> None:
    wrapped = float(wrap_degrees(np.float64(angle)))
    assert -180 <= wrapped < 180
    turns = (angle - wrapped) / 360
    assert turns == pytest.approx(round(turns), abs=1e-9)


def test_a_step_across_the_wrap_is_a_small_step() -> None:
    assert wrap_degrees(np.array([-179.9 - 179.9])) == pytest.approx(0.2)


def test_the_contract_of_a_policy_without_a_network_fits_the_rig() -> None:
    spec = rig_spec()
    assert spec.sensors[0].window == round(0.1 * spec.sensors[0].rate_hz)
    assert spec.action.high[0] * spec.action.rate_hz == pytest.approx(1.0)  # mm/s
