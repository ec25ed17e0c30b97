"""Insertions measured in lock-step: what the policy is shown, what is counted, and runs that go on."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

import tinyvla
from clients.rig_sim.lockstep import NeedleRigSim
from clients.rig_sim.parameters import DEFAULT_FILE, load_parameters
from clients.robots.needle_rig_contract import SENSOR, SENSOR_WINDOW, rig_spec
from policy.errors import UsageError
from policy.null import NullPolicy, null_spec
from tests.trainer.inline import Inline
from tests.trainer.rig_episodes import episode
from trainer import evaluate_needle_rig as module
from trainer.evaluate_needle_rig import evaluate_needle_rig
from trainer.evaluation import rig_worker, run_missing
from trainer.evaluation.rig_actors import RigPolicyActor
from trainer.evaluation.rig_rollout import run_rig_episode
from trainer.evaluation.rig_summary import RigRow, rig_markdown, rig_rows
from trainer.evaluation.settings import EvaluateArgs

SPEC = rig_spec(height=18, width=32)


def test_a_row_counts_stages_and_means_what_was_measured() -> None:
    episodes = [
        episode(0, depth_error=-0.2, docking_lateral=0.1),
        episode(1, depth_error=0.4, docking_lateral=0.3),
        episode(2, success=False, aborted="axial force"),
        episode(0, success=False, actor="zero"),
    ]
    policy, zero = rig_rows(episodes)
    assert (policy.aligned, policy.docked, policy.successes, policy.episodes) == (3, 2, 2, 3)
    assert policy.depth_error_abs == pytest.approx(0.3)  # sizes, not the mean of -0.2 and 0.4
    assert policy.docking_lateral == pytest.approx(0.2)
    assert policy.aborts == {"axial force": 1}
    assert (policy.low, policy.high) == (pytest.approx(0.208, abs=1e-3), pytest.approx(0.939, abs=1e-3))
    assert (zero.actor, zero.successes, zero.depth_error_abs) == ("zero", 0, None)
    lines = rig_markdown([policy, zero]).splitlines()
    assert lines[2].startswith(
        "| policy | 3/3 | 2/3 | 2/3 | 20.8–93.9 % | 12.0 | 0.200 | 0.20 | 0.300 | 0.050 |"
    )
    assert "| 1 axial force |" in lines[2]
    assert len({line.count("|") for line in lines}) == 1


class FlatRenderer:
    """Stands in for a renderer: one colour a view."""

    def __init__(self, views) -> None:
        self._views = views

    def render(self, layout, pose):
        return {view: np.full((18, 32, 3), 40 * i, np.uint8) for i, view in enumerate(self._views)}


class Seeing(NullPolicy):
    """Keeps what it was shown, and says which action of its chunk is which."""

    def __init__(self, spec) -> None:
        super().__init__(spec)
        self.seen, self.options = [], []

    def predict(self, observations, options, features=None):
        self.seen += observations
        self.options += options
        chunk = np.zeros((self.spec.horizon, 6), np.float32)
        chunk[:, 5] = np.arange(self.spec.horizon) / 1000
        return [SimpleNamespace(actions=chunk)]


@pytest.fixture(scope="module")
def short(tmp_path_factory) -> Path:
    """The rig with small pictures and a second an episode."""
    path = tmp_path_factory.mktemp("rig") / "short.toml"
    text = DEFAULT_FILE.read_text()
    for name, old, new in (("width", "128", "32"), ("height", "72", "18"), ("time_limit", "40.0", "1.0")):
        assert f"{name} = {{ value = {old}" in text
        text = text.replace(f"{name} = {{ value = {old}", f"{name} = {{ value = {new}")
    path.write_text(text)
    return path


@pytest.mark.parametrize("sensor", [True, False])
def test_a_policy_sees_pictures_state_and_as_asked_the_sensor(short, sensor) -> None:
    sim, policy = NeedleRigSim(load_parameters(short)), Seeing(SPEC)
    executed = []
    right = sim.step
    sim.step = lambda action: executed.append(float(action[5])) or right(action)  # type: ignore[method-assign]
    actor = RigPolicyActor(policy, FlatRenderer(sim.cameras), 4, 3, sensor=sensor)
    found = run_rig_episode(sim, actor, "policy", 2, 1002)
    assert found.chunks == len(policy.seen) == 5  # a second, four of 20 actions each
    np.testing.assert_allclose(executed, np.tile([0, 0.001, 0.002, 0.003], 5), atol=1e-7)
    first = policy.seen[0]
    assert {view: int(image[9, 16, 0]) for view, image in first.images.items()} == {
        view: pytest.approx(40 * i, abs=3) for i, view in enumerate(sim.cameras)
    }
    assert first.instruction == sim.instruction
    if sensor:
        assert first.sensors[SENSOR].shape == (SENSOR_WINDOW, 1026)
    else:
        assert first.sensors == {}
    assert {option.ddim_steps for option in policy.options} == {3}
    assert len({option.seed for option in policy.options}) == 5
    assert (found.episode, found.seed, found.success) == (2, 1002, False)
    assert found.inference_ms is not None


def test_a_policy_without_sensors_is_shown_none(short) -> None:
    sim = NeedleRigSim(load_parameters(short))
    policy = Seeing(SPEC.model_copy(update={"sensors": ()}))
    run_rig_episode(sim, RigPolicyActor(policy, FlatRenderer(sim.cameras), 16, None), "policy", 0, 0)
    assert all(observation.sensors == {} for observation in policy.seen)


@pytest.fixture
def played(monkeypatch) -> list[tuple[str, int]]:
    """The episodes that are really run, without a simulator."""
    ran: list[tuple[str, int]] = []

    def run(args, job):
        ran.append((job.actor, job.episode))
        return episode(job.episode, job.episode % 2 == 0, actor=job.actor)

    monkeypatch.setattr(module, "run_rig_job", run)
    monkeypatch.setattr(run_missing, "simulation_workers", Inline)
    monkeypatch.setattr(module, "load_policy", lambda args: NullPolicy(SPEC))
    return ran


def call(out: Path, **changes) -> list[RigRow]:
    values = {
        "out": out,
        "robot": "needle-rig",
        "bundle": Path("bundle"),
        "episodes": 3,
        "workers": 1,
        **changes,
    }
    return evaluate_needle_rig(EvaluateArgs(**values), Console(file=io.StringIO()))


def test_results_are_written_in_every_form_and_not_run_twice(played, tmp_path) -> None:
    rows = call(tmp_path, references=True)
    assert {row.actor: row.successes for row in rows} == dict.fromkeys(
        ("policy", "expert", "expert, pushed", "zero", "random"), 2
    )
    summary = json.loads((tmp_path / "results.json").read_text())
    assert summary["rows"][0]["successes"] == 2
    for words in ("Simulation (needle rig)", "scenes 1000–1002", "sensor on", "4 of 16 actions"):
        assert words in (tmp_path / "results.md").read_text()
    assert (tmp_path / "results.png").read_bytes().startswith(b"\x89PNG")
    assert len((tmp_path / "episodes.jsonl").read_text().splitlines()) == 15
    played.clear()
    assert call(tmp_path, references=True) == rows
    assert played == []
    call(tmp_path, episodes=5)
    assert sorted(played) == [("policy", 3), ("policy", 4)]


@pytest.mark.parametrize(
    "changes", [{"sensor": False}, {"seed": 0}, {"execute": 8}, {"ddim_steps": 2}, {"instruction": "go"}]
)
def test_results_of_another_protocol_are_never_mixed_in(played, tmp_path, changes) -> None:
    call(tmp_path)
    with pytest.raises(UsageError, match="another policy or protocol"):
        call(tmp_path, **changes)


def test_a_policy_is_recorded_with_its_own_row_alone(played, tmp_path, monkeypatch) -> None:
    recorded = []
    monkeypatch.setattr(module, "record_measured", lambda *what: recorded.append(what))
    call(tmp_path / "out", references=True, record=True)
    ((bundle, protocol, rows),) = recorded
    assert bundle == Path("bundle")
    assert "sensor on" in protocol
    assert [(row["task"], row["successes"], row["episodes"]) for row in rows] == [("needle-insertion", 2, 3)]


@pytest.mark.parametrize(
    ("changes", "spec", "told"),
    [
        ({"bundle": None}, SPEC, "give the policy's --bundle or --checkpoint"),
        ({}, null_spec(), "is not for the needle rig: its state is s0"),
        ({"execute": 17}, SPEC, "a chunk of null has 16 actions"),
        ({"episodes": 0}, SPEC, "must be at least 1"),
        ({"seed": -1}, SPEC, "--seed must be 0 or more"),
        (
            {"sensor": False},
            SPEC.model_copy(update={"sensors": (SPEC.sensors[0].model_copy(update={"optional": False}),)}),
            "null was not trained to do without needle_tip",
        ),
    ],
)
def test_what_cannot_be_measured_is_one_line_and_leaves_nothing(
    played, tmp_path, monkeypatch, changes, spec, told
) -> None:
    monkeypatch.setattr(module, "load_policy", lambda args: NullPolicy(spec))
    with pytest.raises(UsageError, match=told):
        call(tmp_path / "out", **changes)
    assert not (tmp_path / "out").exists()


def test_the_command_says_what_is_missing_in_one_line(tmp_path, capsys) -> None:
    assert tinyvla.main(["evaluate", "--robot", "needle-rig", "--out", str(tmp_path / "out")]) == 2
    assert (
        capsys.readouterr().err
        == "tinyvla evaluate: --robot needle-rig: give the policy's --bundle or --checkpoint\n"
    )
    assert tinyvla.main(["evaluate", "--no-sensor", "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith("tinyvla evaluate: --no-sensor is for --robot needle-rig")


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--robot", "needle-rig", "--tasks", "reach"], "--tasks is for MetaWorld"),
        (["--rig-parameters", "other.toml"], "--rig-parameters is for --robot needle-rig"),
    ],
)
def test_a_flag_of_another_robot_is_refused_and_not_ignored(tmp_path, capsys, flags, told) -> None:
    assert tinyvla.main(["evaluate", "--out", str(tmp_path / "out"), *flags]) == 2
    assert capsys.readouterr().err.startswith(f"tinyvla evaluate: {told}")
    assert not (tmp_path / "out").exists()


def test_a_worker_renders_what_its_policy_sees(short, monkeypatch, tmp_path) -> None:
    policy = Seeing(SPEC.model_copy(update={"cameras": SPEC.cameras[1:3]}))
    monkeypatch.setattr(rig_worker, "load_policy", lambda args: policy)
    args = EvaluateArgs(robot="needle-rig", bundle=tmp_path, rig_parameters=short, sensor=False)
    found = rig_worker.run_rig_job(args, rig_worker.RigJob("policy", 4))
    assert (found.seed, found.episode, found.chunks) == (1004, 4, 5)
    assert {view: image.shape for view, image in policy.seen[0].images.items()} == dict.fromkeys(
        ("view2", "view3"), (18, 32, 3)
    )
    assert policy.seen[0].images["view2"].std() > 5  # a scene, not a blank
    expert = rig_worker.run_rig_job(args, rig_worker.RigJob("zero", 4))
    assert (expert.chunks, expert.inference_ms, expert.seed) == (0, None, 1004)
