"""Speeds and workspace: whatever is planned and whatever came before, what is sent stays within them."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from clients.hold import ActionKind, hold_action
from clients.motion_limits import MotionLimits
from clients.safety_limits import SafetyLimits, Workspace
from policy.null import null_spec

RATE = 20.0
ACTION = null_spec(action_dim=3, rate_hz=RATE).action
KEPT = (2,)
# State entry 1 moves with action 0, half a unit per unit; entry 0 moves against action 1.
BOX = Workspace(
    state=np.array([1, 0]), action=np.array([0, 1]), low=np.array([-0.6, -0.2]), high=np.array([0.4, 0.3]),
    scale=np.array([0.5, -0.25]),
)  # fmt: skip


def limits(kind: ActionKind = "delta", **values: object) -> SafetyLimits:
    return replace(SafetyLimits.of(ACTION), kind=kind, **values)


def array(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def travelled(kind: ActionKind, command: np.ndarray, last: np.ndarray) -> np.ndarray:
    """What a robot of this kind does with a command, on its own account."""
    if kind == "absolute":
        return command - last
    return command / RATE if kind == "velocity" else command


@st.composite
def plans(draw: st.DrawFn) -> list[np.ndarray | None]:
    """Actions far beyond the limits too, and periods of holding."""
    action = hnp.arrays(np.float32, 3, elements=st.floats(-3, 3, width=32))
    return draw(st.lists(st.one_of(st.none(), action), min_size=1, max_size=60))


@pytest.mark.parametrize("kind", ["delta", "velocity", "absolute"])
@given(
    plan=plans(),
    seen_every=st.integers(1, 20),
    captured_before=st.sampled_from([0.0, 0.4 / RATE, 1 / RATE]),
    start=st.floats(-2, 2),
)
def test_no_command_leaves_bounds_speeds_or_workspace(kind, plan, seen_every, captured_before, start):
    """A robot that does exactly what it is told, watched by somebody who only adds up what it did."""
    per_step, per_second, bounds = array(0.5, 0.3, 9), array(1.2, 2.0, 9), array(0.9, 0.8, 1)
    box = BOX if kind != "velocity" else replace(BOX, scale=BOX.scale * RATE)
    motion = MotionLimits(
        limits(
            kind, low=-bounds, high=bounds, max_per_step=per_step, max_per_second=per_second, workspace=box
        ),
        1 / RATE,
        KEPT,
    )
    last = array(0, 0, 0)
    position = np.array([0.1, start, 0.0]) if kind != "absolute" else np.array([0.0, 0.0, 0.0])
    done: list[np.ndarray] = []
    executed = 0
    for period, planned in enumerate(plan):
        now = period / RATE
        if period % seen_every == 0:
            # Captured just before this period's command, or just after the one before.
            motion.located(position.copy(), executed, now - captured_before)
        if planned is None:
            command = motion.limit_hold(hold_action(kind, last, KEPT, 0.5), last, now)
        else:
            limited = motion.limit(planned, last, now)
            assert limited.command is not None
            command = limited.command
            assert (np.abs(command) <= bounds + 1e-6).all()
        moved = travelled(kind, command, last)
        motion.sent(command, last, now, executed=planned is not None)
        executed += planned is not None
        before, position = position.copy(), position.copy()
        for entry, dim, scale in zip(box.state, box.action, box.scale, strict=True):
            position[entry] += scale * moved[dim]
        done.append(np.abs(moved))
        assert (np.abs(moved)[:2] <= per_step[:2] + 1e-5).all()
        assert (np.sum(done[-int(RATE) :], axis=0)[:2] <= per_second[:2] + 1e-4).all()
        for entry, low, high in zip(box.state, box.low, box.high, strict=True):
            inside = low - 1e-5 <= position[entry] <= high + 1e-5
            inward = abs(position[entry] - np.clip(position[entry], low, high)) <= abs(
                before[entry] - np.clip(before[entry], low, high)
            )
            assert inside or inward
        last = command


def test_each_limit_is_named():
    motion = MotionLimits(
        limits(max_change=array(0.2, 9, 9), max_per_step=array(9, 0.1, 9), workspace=BOX), 1 / RATE, KEPT
    )
    motion.located(np.array([0.0, 0.3, 0.0]), 0, 0.0)
    assert set(motion.limit(array(0.1, 0.05, 0), array(0, 0, 0), 0.0).causes) == set()
    assert set(motion.limit(array(0.3, 0.3, 0), array(0, 0, 0), 0.0).causes) == {
        "max_change", "max_per_step", "workspace",
    }  # fmt: skip
    assert set(motion.limit(array(0.0, 0.0, 4), array(0, 0, 0), 0.0).causes) == {"bounds"}


def test_a_robot_outside_its_workspace_may_only_come_back():
    motion = MotionLimits(limits(workspace=BOX), 1 / RATE, KEPT)
    motion.located(np.array([0.0, 0.9, 0.0]), 0, 0.0)
    assert motion.limit(array(0.5, 0, 0), array(0, 0, 0), 0.0).command[0] == 0
    assert motion.limit(array(-0.5, 0, 0), array(0, 0, 0), 0.0).command[0] == -0.5


def test_a_newer_state_forgets_what_was_commanded_before_it():
    motion = MotionLimits(limits(workspace=BOX), 1 / RATE, KEPT)
    motion.located(np.array([0.0, 0.0, 0.0]), 0, 0.0)
    motion.sent(array(0.8, 0, 0), array(0, 0, 0), 1.0, executed=True)
    assert motion.limit(array(0.5, 0, 0), array(0, 0, 0), 1.1).command[0] == pytest.approx(0)
    motion.located(np.array([0.0, 0.0, 0.0]), 1, 1.05)  # it did not follow: it was blocked, say
    assert motion.limit(array(0.5, 0, 0), array(0, 0, 0), 1.1).command[0] == pytest.approx(0.5)


def test_speed_within_a_second_is_given_back_as_the_second_passes():
    motion = MotionLimits(limits(max_per_second=array(1, 1, 1)), 1 / RATE, KEPT)
    motion.sent(array(0.7, 0, 0), array(0, 0, 0), 0.0, executed=True)
    assert motion.limit(array(0.5, 0, 0), array(0, 0, 0), 0.5).command[0] == pytest.approx(0.3)
    assert motion.limit(array(0.5, 0, 0), array(0, 0, 0), 1.0).command[0] == pytest.approx(0.5)


def test_a_gripper_is_bound_by_its_bounds_only():
    motion = MotionLimits(
        limits(max_per_step=array(0.1, 0.1, 0.1), max_per_second=array(0.1, 0.1, 0.1)), 1 / RATE, KEPT
    )
    np.testing.assert_array_equal(motion.limit(array(0, 0, 1), array(0, 0, -1), 0.0).command, [0, 0, 1])


def test_where_the_limits_leave_no_room_nothing_is_sent():
    """Bounds that demand motion, and a workspace that forbids it."""
    motion = MotionLimits(limits(low=array(0.2, -1, -1), high=array(1, 1, 1), workspace=BOX), 1 / RATE, KEPT)
    motion.located(np.array([0.0, 0.9, 0.0]), 0, 0.0)
    limited = motion.limit(array(0.5, 0, 0), array(0, 0, 0), 0.0)
    assert limited.command is None
    assert "workspace" in limited.causes


def test_the_watchdog_may_command_while_the_control_thread_looks_for_its_own():
    """With real threads: what one counts, the other goes through."""
    motion, done = MotionLimits(limits(max_per_second=array(1e6, 1e6, 1e6)), 1 / RATE), threading.Event()
    failed: list[Exception] = []

    def send() -> None:
        now = 0.0
        while not done.is_set():
            now += 0.01
            motion.sent(array(0.1, 0, 0), array(0, 0, 0), now, executed=False)

    def look() -> None:
        try:
            for _ in range(2000):
                motion.limit(array(0.1, 0, 0), array(0, 0, 0), 1.0)
        except Exception as error:
            failed.append(error)
        done.set()

    threads = [threading.Thread(target=body) for body in (send, look)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []
