"""The simulated rig's core: scenes follow from seeds, the arm keeps its limits, forces come in their order."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clients.rig_sim.geometry import (
    angle_between,
    angles_of_direction,
    euler_matrix,
    matrix_quaternion,
    norm,
    rotated,
    turn_matrix,
)
from clients.rig_sim.kinematics import ArmKinematics
from clients.rig_sim.layout import draw_layout
from clients.rig_sim.lockstep import ENVIRONMENT_STATE_NAMES, NeedleRigSim
from clients.rig_sim.motion import ArmMotion
from clients.rig_sim.needle import NeedleFrame
from clients.rig_sim.parameters import DEFAULT_FILE, load_parameters
from clients.rig_sim.sim import RigSim
from clients.robots.needle_rig_contract import ACTION_LIMIT, SENSOR, SENSOR_WINDOW, STATE_NAMES
from clients.robots.rig_wire import Command
from policy.errors import UsageError
from trainer.expert_needle_rig import Perturbation, expert_action

PARAMETERS = load_parameters()
ANGLE = st.floats(-179.0, 179.0)
SMALL = st.floats(-80.0, 80.0)


def solved(seed: int, noise: float = 0.0) -> NeedleRigSim:
    """An episode that the expert has done."""
    sim = NeedleRigSim(PARAMETERS)
    sim.reset(seed)
    pushes = Perturbation(np.random.default_rng(seed), noise)
    while not sim.done:
        sim.step(pushes.executed(expert_action(sim.core), sim.core))
    return sim


@pytest.fixture(scope="module")
def done() -> NeedleRigSim:
    return solved(3)


@given(ANGLE, SMALL, ANGLE)
def test_angles_and_directions_agree(a: float, b: float, r: float) -> None:
    direction = euler_matrix(a, b, r)[:, 2]
    again = euler_matrix(*angles_of_direction(tuple(direction)), 0.0)[:, 2]
    np.testing.assert_allclose(again, direction, atol=1e-9)
    w, x, y, z = matrix_quaternion(euler_matrix(a, b, r))
    v = (0.3, -0.2, 0.9)
    turn = 2 * math.acos(min(1.0, abs(w)))
    sign = 1 if w >= 0 else -1
    length = math.sqrt(x * x + y * y + z * z)
    axis = (
        (sign * x / length * turn, sign * y / length * turn, sign * z / length * turn)
        if length
        else (0, 0, 0)
    )
    np.testing.assert_allclose(euler_matrix(a, b, r) @ v, rotated(v, axis), atol=1e-6)
    np.testing.assert_allclose(turn_matrix(axis) @ v, rotated(v, axis), atol=1e-9)


def test_the_arm_at_zero_is_the_maker_s_drawing() -> None:
    arm = PARAMETERS.arm
    tip = ArmKinematics(arm).frames(np.zeros(6))[-1]
    np.testing.assert_allclose(
        tip[:3, 3], [arm.d4 + arm.d6 + arm.tool_length, 0, arm.d1 + arm.a2 + arm.a3], atol=1e-9
    )


@given(st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_joints_bring_the_needle_to_its_pose_in_every_scene(seed: int) -> None:
    start = draw_layout(PARAMETERS, seed).start
    kinematics = ArmKinematics(PARAMETERS.arm)
    tip = kinematics.frames(kinematics.solve(start))[-1]
    np.testing.assert_allclose(tip[:3, 3], start[:3], atol=1e-5)
    np.testing.assert_allclose(tip[:3, :3], euler_matrix(*start[3:]), atol=1e-6)


def test_a_pose_out_of_reach_is_one_line() -> None:
    with pytest.raises(UsageError, match="does not reach"):
        ArmKinematics(PARAMETERS.arm).solve(np.array([900.0, 0, 0, -145, 0, 0]))


@given(st.integers(0, 2**62))
@settings(max_examples=25, deadline=None)
def test_a_scene_lies_within_the_ranges_it_is_drawn_from(seed: int) -> None:
    layout, ranges = draw_layout(PARAMETERS, seed), PARAMETERS.episode
    tip, direction = NeedleFrame(PARAMETERS, layout).at(layout.start)
    relative = np.array(tip) - layout.entry
    height = -float(relative @ layout.axis)
    lateral = float(np.linalg.norm(relative + height * np.array(layout.axis)))
    low, high = ranges.start_height
    assert low - 1e-6 <= height <= high + 1e-6
    low, high = ranges.start_lateral
    assert low - 1e-6 <= lateral <= high + 1e-6
    low, high = ranges.start_angle
    assert low - 1e-6 <= angle_between(direction, layout.axis) <= high + 1e-6
    low, high = PARAMETERS.retina.depth
    assert low <= layout.retina_depth <= high
    assert norm(layout.axis) == pytest.approx(1)


def test_a_seed_is_a_scene_and_an_episode_bit_for_bit() -> None:
    one, other = solved(11, noise=1.0), solved(11, noise=1.0)
    assert one.core.stages.metrics() == other.core.stages.metrics()
    np.testing.assert_array_equal(one.state, other.state)
    np.testing.assert_array_equal(one.stream(200, 260)[1], other.stream(200, 260)[1])
    assert solved(12).core.stages.metrics() != one.core.stages.metrics()


def test_samples_are_the_same_whenever_they_are_made(done: NeedleRigSim) -> None:
    _, whole = done.stream(300, 340)
    for first, end in ((300, 301), (313, 327), (305, 340)):
        np.testing.assert_array_equal(done.stream(first, end)[1], whole[first - 300 : end - 300])


@given(st.lists(st.tuples(*[st.floats(-0.3, 0.3)] * 6), min_size=1, max_size=20))
@settings(max_examples=30, deadline=None)
def test_no_command_moves_the_arm_faster_than_its_limits(deltas: list[tuple[float, ...]]) -> None:
    limits = PARAMETERS.limits
    motion = ArmMotion(limits, PARAMETERS.arm.servo_time, np.array([0, 0, 0, 179.9, 0, -179.9]))
    motion.command(Command("start"), 0.0)
    now, dt = 0.0, 1 / 1300
    for delta in deltas:
        motion.command(Command("dpose", delta), now)
        for _ in range(65):
            before, now = list(motion.pose), now + dt
            motion.advance(dt, now)
            moved = [(b - a + 180) % 360 - 180 for a, b in zip(before, motion.pose, strict=True)]
            assert norm((moved[0], moved[1], moved[2])) <= limits.speed * dt * 1.0001
            assert max(map(abs, moved[3:])) <= limits.turn_speed * dt * 1.0001
            assert all(-180 <= angle < 180 for angle in motion.pose[3:])


def test_a_burst_of_late_commands_moves_the_arm_no_further_than_its_lead() -> None:
    limits = PARAMETERS.limits
    motion = ArmMotion(limits, PARAMETERS.arm.servo_time, np.zeros(6))
    motion.command(Command("start"), 0.0)
    for _ in range(1000):
        motion.command(Command("dpose", (0.05, 0, 0, 0, 0, 0.05)), 0.0)
    for step in range(5 * 1300):
        motion.advance(1 / 1300, step / 1300)
    assert motion.pose[0] <= limits.lead + 1e-9
    assert motion.pose[5] <= limits.lead + 1e-9
    assert motion.cut > 900


def test_the_arm_stops_when_commands_cease_and_goes_on_when_they_come_again() -> None:
    limits = PARAMETERS.limits
    motion = ArmMotion(limits, PARAMETERS.arm.servo_time, np.zeros(6))
    motion.command(Command("start"), 0.0)
    motion.command(Command("apose", (5, 0, 0, 0, 0, 0)), 0.0)
    for step in range(1300):
        motion.advance(1 / 1300, step / 1300)
    assert motion.pose[0] == pytest.approx(limits.silence * limits.speed, abs=0.01)
    assert motion.silences == 1
    motion.command(Command("dpose", (0.05, 0, 0, 0, 0, 0)), 1.0)
    reached = motion.pose[0]
    for step in range(1300, 1300 + 380):
        motion.advance(1 / 1300, step / 1300)
    assert motion.pose[0] == pytest.approx(reached + 0.05, abs=0.002)


def test_nothing_moves_before_start_and_after_stop() -> None:
    motion = ArmMotion(PARAMETERS.limits, 0.05, np.zeros(6))
    assert not motion.command(Command("dpose", (0.05,) * 6), 0.0)
    motion.command(Command("start"), 0.0)
    assert motion.command(Command("dpose", (0.05,) * 6), 0.0)
    motion.command(Command("stop"), 0.0)
    assert not motion.command(Command("apose", (1.0,) * 6), 0.0)
    motion.advance(0.1, 0.1)
    assert motion.pose == [0.0] * 6


def test_the_valve_is_stiff_then_ruptures_then_rubs(done: NeedleRigSim) -> None:
    layout = done.core.layout
    force = done.stream()[1][:, 0] - layout.force_bias
    peak = int(np.argmax(force))
    assert force[peak] == pytest.approx(layout.valve_rupture, abs=0.012)
    assert (np.abs(force[: peak // 2]) < 0.012).all()
    assert force[peak - 100] < force[peak - 50] < force[peak - 10]
    assert np.median(force[peak + 30 : peak + 300]) == pytest.approx(
        layout.valve_friction + PARAMETERS.valve.viscous * 0.7, abs=0.008
    )


def brightest(aline: np.ndarray) -> float:
    """Depth of the brightest point, mm."""
    return float(np.argmax(aline)) * PARAMETERS.oct.pitch


def test_a_line_peaks_follow_the_tip_s_distance_to_what_lies_below(done: NeedleRigSim) -> None:
    truth = done.core.situation().retina_distance
    last = done.stream(done.core.sensor.count - 30)[1][:, 1:].mean(0)
    # The pigment epithelium is the brightest; the limiting membrane lies the retina's thickness above it.
    assert brightest(last) - PARAMETERS.oct.retina_thickness == pytest.approx(truth, abs=0.03)
    window = last[: round((truth + 0.1) / PARAMETERS.oct.pitch)]
    assert brightest(window) == pytest.approx(truth, abs=0.03)
    first = done.stream(0, 30)[1][:, 1:].mean(0)
    start = NeedleRigSim(PARAMETERS)
    start.reset(3)
    situation = start.core.situation()
    assert brightest(first) == pytest.approx(-situation.depth, abs=1.2)


def test_a_lines_speckle_and_fade_with_depth(done: NeedleRigSim) -> None:
    lines = done.stream(2000, 2300)[1][:, 1:]
    assert lines.shape[1] == 1025
    assert lines.std(0).min() > 2.0  # fully developed speckle: 5.6 dB
    near, far = lines[:, 50:150].mean(), lines[:, 900:].mean()
    assert near > far


def test_an_inserted_needle_turns_the_eye_and_loads_the_trocar() -> None:
    sim = solved(5)
    core = sim.core
    before = core.reaction.lateral_force
    sideways = core.layout.to_base((1.0, 0.0, 0.0)) * 0.05
    for _ in range(30):
        core.command(Command("dpose", (*sideways.tolist(), 0.0, 0.0, 0.0)))
        for _ in range(5):
            core.tick()
    turned = math.degrees(norm(core.eye.turn))
    assert turned > 2.0
    assert core.reaction.lateral_force > max(before, 0.005)
    # The eye follows the needle: the shaft still runs through the cannula.
    assert core.contact.where == "inside"


def test_a_needle_that_misses_the_funnel_never_enters_and_the_rig_stops() -> None:
    core = RigSim(PARAMETERS)
    core.reset(3)
    core.command(Command("start"))
    axis, entry = np.array(core.eye.axis), np.array(core.eye.entry)
    across = np.cross(axis, [1.0, 0.0, 0.0])
    aside = entry + 0.8 * across / np.linalg.norm(across)
    touched = set()
    while not core.stages.over:
        way = aside - core.tip
        side = way - (way @ axis) * axis
        step = side if np.linalg.norm(side) > 0.1 else axis
        delta = core.layout.to_base(tuple(step / np.linalg.norm(step) * 0.05))
        core.command(Command("dpose", (*delta.tolist(), 0, 0, 0)))
        for _ in range(5):
            core.tick()
            touched.add(core.contact.where)
    metrics = core.stages.metrics()
    assert "cap" in touched
    assert "inside" not in touched
    assert metrics.aborted in ("axial force", "lateral force")
    assert core.motion.halted == metrics.aborted
    assert not metrics.docked
    assert not core.command(Command("dpose", (0.01, 0, 0, 0, 0, 0)))
    assert metrics.peak_axial_force < 1.5 * PARAMETERS.limits.abort_force


def test_pushing_on_into_the_retina_is_an_abort_and_no_success() -> None:
    sim = NeedleRigSim(PARAMETERS)
    sim.reset(3)
    while not sim.done:
        action = expert_action(sim.core)
        if sim.core.contact.where == "inside":
            into = sim.core.layout.to_base(sim.core.eye.axis) * 0.05
            action = np.array([*into, 0, 0, 0], np.float32)
        sim.step(action)
    metrics = sim.core.stages.metrics()
    assert metrics.aborted == "retina touched"
    assert metrics.docked
    assert not metrics.success


def test_standing_still_runs_into_the_time_limit() -> None:
    sim = NeedleRigSim(PARAMETERS)
    sim.reset(0)
    for _ in range(3):
        sim.step(np.zeros(6))
    assert not sim.done
    sim.core.stages._now = None
    while not sim.done:
        sim.step(np.zeros(6))
    assert sim.core.time == pytest.approx(PARAMETERS.task.time_limit, abs=0.06)
    metrics = sim.core.stages.metrics()
    assert (metrics.aligned, metrics.docked, metrics.success) == (False, False, False)


@pytest.mark.parametrize("seed", range(1000, 1008))
def test_the_expert_succeeds_in_time_and_gently(seed: int) -> None:
    metrics = solved(seed, noise=1.0).core.stages.metrics()
    assert metrics.success
    assert 10 < metrics.seconds < 35
    assert metrics.docking_lateral is not None
    assert metrics.docking_lateral < 0.25
    assert metrics.depth_error is not None
    assert abs(metrics.depth_error) <= PARAMETERS.task.tolerance
    assert metrics.peak_lateral_force < PARAMETERS.limits.abort_lateral


def test_what_a_policy_sees_has_the_contract_s_shapes(done: NeedleRigSim) -> None:
    assert done.state.shape == (len(STATE_NAMES),)
    assert done.environment_state.shape == (len(ENVIRONMENT_STATE_NAMES),)
    window = done.sensors()[SENSOR]
    assert window.shape == (SENSOR_WINDOW, 1026)
    fresh = NeedleRigSim(PARAMETERS)
    fresh.reset(1)
    assert fresh.sensors()[SENSOR].shape == (SENSOR_WINDOW, 1026)  # the settling filled it
    times, _ = fresh.stream()
    assert times[-1] <= fresh.core.time == 0.0


def test_the_reported_pose_lies_off_the_true_one_by_the_calibration() -> None:
    sim = NeedleRigSim(PARAMETERS)
    sim.reset(4)
    reported = sim.state[:3] + np.array(PARAMETERS.arm.base)
    off = float(np.linalg.norm(reported - np.array(sim.core.tip)))
    assert 0.05 < off < 3.0


def test_actions_beyond_the_bounds_are_cut() -> None:
    sim = NeedleRigSim(PARAMETERS)
    sim.reset(2)
    start = np.array(sim.core.motion.pose)
    sim.step(np.full(6, 10.0))
    assert np.abs(np.array(sim.core.motion.pose) - start).max() <= ACTION_LIMIT + 1e-9


def test_every_parameter_has_a_unit_and_a_source() -> None:
    import tomllib

    told = tomllib.loads(DEFAULT_FILE.read_text())
    entries = [(f"{name}.{key}", entry) for name, part in told.items() for key, entry in part.items()]
    assert len(entries) > 70
    for name, entry in entries:
        assert set(entry) == {"value", "unit", "source"}, name
        assert len(entry["source"]) > 5, name


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("speed = {", "sped = {", "missing speed"),
        ("[eye]", "[eyes]", "missing eye"),
        ("value = 12.0", 'value = "large"', "eye.radius: expected a number"),
        ("value = [0.03, 0.10]", "value = [0.10, 0.03]", "eye.breathing: a range starts with its lower end"),
        ("value = 12.0", "value = -12.0", "eye.radius must be above 0"),
        ("value = 0.5, unit = \"N/mm\"", "value = 50.0, unit = \"N/mm\"", "wall_stiffness is too large"),
        ("value = 128", "value = 12.8", "cameras.width: expected a whole number"),
        (', source = "DESIGN section 8" }', " }", "must have a value, a unit and a source"),
        ("[arm]", "[arm", "at line"),
    ],
)  # fmt: skip
def test_a_parameter_file_at_fault_is_one_line(tmp_path: Path, old: str, new: str, told: str) -> None:
    text = DEFAULT_FILE.read_text()
    assert old in text
    path = tmp_path / "rig.toml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(UsageError, match=told) as caught:
        load_parameters(path)
    assert "\n" not in str(caught.value)
