"""Success during training: of the checkpoint that was just written, on the dataset's tasks, told with the epoch."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from clients.robots import metaworld_sim
from clients.robots.needle_rig_contract import rig_spec
from policy.errors import UsageError
from policy.null import NullPolicy, null_spec
from policy.spec import InstructionSpec, PolicySpec, StateSpec
from tests.trainer.rig_episodes import episode as rig_episode
from trainer import closed_loop as module
from trainer import train
from trainer.checkpoint import load_checkpoint
from trainer.closed_loop import ClosedLoop
from trainer.epoch_log import EPOCHS, read_epochs
from trainer.evaluation import rig_worker, worker
from trainer.evaluation.rig_actors import RigPolicyActor
from trainer.evaluation.rig_worker import RigJob
from trainer.evaluation.rollout import EpisodeResult
from trainer.evaluation.settings import EvaluateArgs
from trainer.train import Trainer


def metaworld_spec(*tasks: str) -> PolicySpec:
    return null_spec(cameras=("corner4",), size=32).model_copy(
        update={
            "state": StateSpec(names=metaworld_sim.STATE_NAMES, units=metaworld_sim.STATE_UNITS),
            "instruction": InstructionSpec(by_task={task: (f"do {task}",) for task in tasks}),
        }
    )


class Pool:
    """Runs jobs where they are handed in."""

    def __init__(self, workers: int) -> None:
        self.map = map

    def shutdown(self, cancel_futures: bool) -> None:
        self.map = None


@pytest.fixture
def played(monkeypatch) -> list[tuple[EvaluateArgs, worker.Job]]:
    """The episodes that are asked for; reach always succeeds, other tasks in their first episode."""
    ran: list[tuple[EvaluateArgs, worker.Job]] = []

    def run(args, job):
        ran.append((args, job))
        return EpisodeResult(
            job.task, "policy", job.episode, 1, job.task == "reach" or job.episode == 0, 9, 1.0
        )

    monkeypatch.setattr(module, "run_job", run)
    monkeypatch.setattr(module, "simulation_workers", Pool)
    return ran


def test_success_is_told_by_task_of_the_checkpoint_that_was_named(played):
    loop = ClosedLoop(metaworld_spec("reach", "push", "solder"), (), episodes=4, workers=1, seed=3)
    assert loop.tasks == ("reach", "push")  # nobody can simulate the third
    assert loop.measure(Path("somewhere")) == {"reach": 1.0, "push": 0.25}
    assert len(played) == 8
    assert {(args.checkpoint, args.seed) for args, _ in played} == {(Path("somewhere"), 500_003)}
    loop.close()


def test_other_tasks_may_be_named(played):
    loop = ClosedLoop(metaworld_spec("reach"), ("drawer-open-v3", "push"), episodes=1, workers=1, seed=0)
    assert loop.measure(Path("somewhere")).keys() == {"drawer-open", "push"}


def test_a_policy_of_the_needle_rig_drives_the_needle_rig(monkeypatch):
    ran = []

    def run(args, job):
        ran.append((args, job))
        return rig_episode(job.episode, success=job.episode == 2)

    monkeypatch.setattr(module, "run_rig_job", run)
    monkeypatch.setattr(module, "simulation_workers", Pool)
    spec = rig_spec(height=18, width=32)
    loop = ClosedLoop(spec, (), episodes=4, workers=1, seed=3)
    assert loop.measure(Path("somewhere")) == {"needle-insertion": 0.25}
    assert [job for _, job in ran] == [RigJob("policy", episode) for episode in range(4)]
    (args,) = {args for args, _ in ran}
    assert (args.robot, args.checkpoint, args.first_seed) == ("needle-rig", Path("somewhere"), 500_003)
    assert args.steps_per_chunk == 4
    with pytest.raises(UsageError, match="the needle rig has needle-insertion alone"):
        ClosedLoop(spec, ("reach",), episodes=4, workers=1, seed=3)


def test_a_policy_or_a_task_that_is_not_metaworlds_is_refused_before_training(make_args, small_vision):
    with pytest.raises(UsageError, match="is not for MetaWorld"):
        Trainer(make_args(evaluate_every=1))
    with pytest.raises(UsageError, match="names no task of MetaWorld"):
        ClosedLoop(metaworld_spec("solder"), (), episodes=1, workers=1, seed=0)


def test_a_run_tells_success_every_few_epochs(make_args, small_vision, tmp_path, monkeypatch, capsys):
    measured = []

    class Fake:
        def __init__(self, spec, tasks, **flags):
            assert flags["episodes"] == 7

        def measure(self, checkpoint):
            measured.append(load_checkpoint(checkpoint).state["progress"]["batches"])
            return {"reach": 0.5, "push": 1.0}

        def close(self):
            measured.append("closed")

    monkeypatch.setattr(train, "ClosedLoop", Fake)
    Trainer(make_args(epochs=4, evaluate_every=2, evaluate_episodes=7, save_every=0)).run()
    assert measured == [10, 20, "closed"]  # five batches an epoch
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Epoch")]
    assert [bool(re.search(r"\| Success: 75 %", line)) for line in told] == [False, True, False, True]
    epochs = read_epochs(tmp_path / "run" / EPOCHS)
    assert [epoch.success for epoch in epochs] == [{}, {"reach": 0.5, "push": 1.0}] * 2


def test_a_worker_loads_a_checkpoint_anew_when_the_run_has_replaced_it(tmp_path, monkeypatch):
    loads = []
    monkeypatch.setattr(worker, "load_policy", lambda args: loads.append(1) or NullPolicy(metaworld_spec()))
    place, args = worker._Workplace(), EvaluateArgs(checkpoint=tmp_path / "evaluated")
    for number in (1, 2):
        (tmp_path / "evaluated").mkdir()
        (tmp_path / "evaluated" / "ema.safetensors").write_bytes(b"weights")
        first = place.policy(args)
        assert place.policy(args) is first
        assert len(loads) == number
        (tmp_path / "evaluated").rename(tmp_path / f"old{number}")


class Renderer:
    """Stands in for one with a GL context."""

    open = 0

    def __init__(self) -> None:
        Renderer.open += 1

    def close(self) -> None:
        Renderer.open -= 1


def test_so_does_a_worker_of_the_needle_rig_and_keeps_one_renderer(tmp_path, monkeypatch):
    loads = []

    def actor(args):
        loads.append(1)
        return None, RigPolicyActor(NullPolicy(metaworld_spec()), Renderer(), 4, None)

    monkeypatch.setattr(rig_worker, "policy_actor", actor)
    monkeypatch.setattr(rig_worker, "run_rig_episode", lambda *_: None)
    monkeypatch.setattr(rig_worker, "_ACTORS", {})
    args = EvaluateArgs(robot="needle-rig", checkpoint=tmp_path / "evaluated")
    for number in (1, 2, 3):
        (tmp_path / "evaluated").mkdir()
        (tmp_path / "evaluated" / "ema.safetensors").write_bytes(b"weights")
        rig_worker.run_rig_job(args, RigJob("policy", 0))
        rig_worker.run_rig_job(args, RigJob("policy", 1))
        assert len(loads) == number
        assert Renderer.open == 1
        (tmp_path / "evaluated").rename(tmp_path / f"old{number}")
