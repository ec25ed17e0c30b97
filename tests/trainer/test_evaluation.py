"""Success with an interval: Wilson's numbers, honest means, tables that say the protocol, runs that go on."""

from __future__ import annotations

import io
import json
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest
from rich.console import Console

from clients.robots import metaworld_sim
from clients.robots.metaworld_tasks import BUNDLED_TASKS, DIFFICULTY, TASKS
from policy.errors import UsageError
from policy.null import NullPolicy, null_spec
from policy.spec import StateSpec
from tests.trainer.inline import Inline
from trainer import evaluate as module
from trainer.collection.attempts import attempt_seed
from trainer.evaluate import evaluate
from trainer.evaluation import run_missing, worker
from trainer.evaluation.interval import wilson
from trainer.evaluation.rollout import EpisodeResult
from trainer.evaluation.settings import EvaluateArgs
from trainer.evaluation.summary import Row, macro_mean, markdown, per_task_mean, rows_of
from trainer.evaluation.worker import episode_seed


@pytest.mark.parametrize(
    ("successes", "episodes", "low", "high"),
    [  # the first four: Newcombe (1998), Table I, method 3
        (81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718),
        (50, 50, 0.9287, 1.0), (45, 50, 0.7864, 0.9565),
    ],
)  # fmt: skip
def test_the_interval_is_wilsons(successes, episodes, low, high):
    assert wilson(successes, episodes) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


def test_the_interval_holds_the_rate_and_mirrors_failures():
    for successes in range(51):
        low, high = wilson(successes, 50)
        assert 0 <= low <= successes / 50 <= high <= 1
        mirrored = wilson(50 - successes, 50)
        assert (low, high) == (pytest.approx(1 - mirrored[1]), pytest.approx(1 - mirrored[0]))


@pytest.mark.parametrize(("successes", "episodes"), [(0, 0), (3, 2), (-1, 5)])
def test_an_interval_of_nothing_is_refused(successes, episodes):
    with pytest.raises(ValueError, match="episodes"):
        wilson(successes, episodes)


def result(
    task: str, success: bool, *, actor: str = "policy", episode: int = 0, steps: int = 100
) -> EpisodeResult:
    return EpisodeResult(task, actor, episode, 7, success, steps if success else 500, 2.0 * episode)


def test_rows_count_per_task_and_actor_and_mean_steps_are_those_of_successes():
    results = [result("reach", i < 3, episode=i, steps=10 * (i + 1)) for i in range(4)]
    results += [result("push", False), result("reach", False, actor="zero")]
    reach, push, zero = rows_of(results)
    assert (reach.task, reach.actor, reach.successes, reach.episodes, reach.rate) == (
        "reach",
        "policy",
        3,
        4,
        0.75,
    )
    assert reach.mean_steps == 20  # 10, 20, 30; not the 500 of the failure
    assert reach.mean_return == 3.0
    assert (reach.low, reach.high) == wilson(3, 4)
    assert push.mean_steps is None
    assert (zero.task, zero.actor, zero.rate) == ("reach", "zero", 0.0)


def row(task: str, rate: float, actor: str = "policy", episodes: int = 10) -> Row:
    return Row(task, actor, round(rate * episodes), episodes, rate, 0.0, 1.0, None, 0.0)


def test_every_task_counts_once_however_many_episodes_it_has():
    assert per_task_mean([row("reach", 1.0, episodes=10), row("push", 0.0, episodes=90)], "policy") == 0.5


def test_the_macro_mean_is_that_of_the_difficulty_groups():
    easy, hard = DIFFICULTY["easy"][:3], DIFFICULTY["hard"][:1]
    rows = [*(row(task, 1.0) for task in easy), row(hard[0], 0.0), row(hard[0], 1.0, "expert")]
    assert macro_mean(rows, "policy") == 0.5
    assert per_task_mean(rows, "policy") == 0.75
    assert macro_mean(rows, "expert") == 1.0


def test_difficulty_groups_are_those_of_the_literature():
    assert {group: len(tasks) for group, tasks in DIFFICULTY.items()} == {
        "easy": 28, "medium": 11, "hard": 6, "very hard": 5,
    }  # fmt: skip
    assert sorted(task for tasks in DIFFICULTY.values() for task in tasks) == sorted(TASKS)


def test_the_table_states_protocol_counts_and_intervals():
    text = markdown(rows_of([result("reach", i < 9, episode=i) for i in range(10)]))
    lines = text.splitlines()
    assert "| reach | policy | 9/10 | 90 % | 60–98 % | 100 | 9 |" in lines
    assert "| **mean over tasks** | policy | | **90.0 %** | | | |" in lines
    assert all(line.count("|") == 8 for line in lines if line.startswith("|"))
    assert "| – |" in markdown(rows_of([result("reach", False)]))


def test_no_goal_of_the_evaluation_was_ever_drawn_for_training():
    """Both lead to a scene through a 31-bit seed; the spaces they come from are different."""
    import numpy as np

    for seed in (0, 1):
        training = {
            int(np.random.default_rng(attempt_seed(seed, task, n)).integers(2**31))
            for task in BUNDLED_TASKS for n in range(300)
        }  # fmt: skip
        evaluation = {episode_seed(seed, task, n) for task in BUNDLED_TASKS for n in range(50)}
        assert len(evaluation) == len(BUNDLED_TASKS) * 50
        assert not training & evaluation


def test_a_policy_is_shown_its_own_views_where_a_reference_acted_before(monkeypatch):
    """As in a worker of a cluster to which an episode comes back whose first worker died."""

    class Scene:
        def __init__(self, task, cameras, size):
            self.task, self.cameras, self.size = task, tuple(cameras), size

        def make_renderer(self):
            return self

        def close(self):
            pass

    monkeypatch.setattr(metaworld_sim, "MetaWorldSim", Scene)
    spec = null_spec(cameras=("topview",), size=96).model_copy(
        update={"state": StateSpec(names=metaworld_sim.STATE_NAMES, units=metaworld_sim.STATE_UNITS)}
    )
    place = worker._Workplace()
    assert place.scene("reach")[0].cameras == metaworld_sim.DEFAULT_CAMERAS
    place._policy = NullPolicy(spec)
    sim, renderer = place.scene("reach")
    assert (sim.cameras, sim.size, renderer) == (("topview",), 96, sim)
    assert place.scene("reach")[0] is sim


def test_every_actor_faces_the_same_goals_and_every_task_others():
    assert episode_seed(0, "reach", 3) == episode_seed(0, "reach", 3)
    assert len({episode_seed(s, t, e) for s in (0, 1) for t in ("reach", "push") for e in (0, 1)}) == 8


@pytest.fixture
def played(monkeypatch) -> list[tuple[str, str, int]]:
    """The episodes that `evaluate` really runs, without a simulator."""
    ran: list[tuple[str, str, int]] = []

    def run(args, job):
        ran.append((job.task, job.actor, job.episode))
        success = job.actor == "expert" or (job.actor == "policy" and job.episode % 2 == 0)
        return EpisodeResult(job.task, job.actor, job.episode, 1, success, 40, 1.5)

    spec = null_spec(cameras=("corner4",), size=32)
    spec = spec.model_copy(
        update={"state": StateSpec(names=metaworld_sim.STATE_NAMES, units=metaworld_sim.STATE_UNITS)}
    )
    monkeypatch.setattr(module, "run_job", run)
    monkeypatch.setattr(run_missing, "simulation_workers", Inline)
    monkeypatch.setattr(module, "load_policy", lambda args: NullPolicy(spec))
    return ran


def call(out: Path, **changes) -> list[Row]:
    args = {"out": out, "tasks": ("reach", "push"), "episodes": 3, "workers": 1, **changes}
    return evaluate(EvaluateArgs(**args), Console(file=io.StringIO()))


def test_results_are_written_in_every_form(played, tmp_path):
    rows = call(tmp_path, references=True)
    assert len(played) == 2 * 4 * 3
    assert {(r.task, r.actor): r.successes for r in rows} == {
        (task, actor): {"policy": 2, "expert": 3}.get(actor, 0)
        for task in ("reach", "push") for actor in ("policy", "zero", "random", "expert")
    }  # fmt: skip
    summary = json.loads((tmp_path / "results.json").read_text())
    assert summary["mean_over_tasks"] == {"policy": pytest.approx(2 / 3), "zero": 0, "random": 0, "expert": 1}
    for word in ("3 episodes a task", "10 sampling steps", "16 of 48 actions", "Simulation"):
        assert word in (tmp_path / "results.md").read_text()
    assert (tmp_path / "results.png").read_bytes().startswith(b"\x89PNG")
    assert len((tmp_path / "episodes.jsonl").read_text().splitlines()) == 24


def test_only_the_policys_own_rows_are_recorded_in_its_bundle(played, tmp_path, monkeypatch):
    recorded = []
    monkeypatch.setattr(module, "record_measured", lambda *what: recorded.append(what))
    call(tmp_path / "out", references=True, bundle=tmp_path / "bundle", record=True)
    ((directory, protocol, rows),) = recorded
    assert directory == tmp_path / "bundle"
    assert "lock-step" in protocol
    assert "3 episodes a task" in protocol
    assert [(row["task"], row["successes"], row["episodes"]) for row in rows] == [
        ("reach", 2, 3),
        ("push", 2, 3),
    ]
    assert rows[0]["interval_95"] == [pytest.approx(0.208, abs=0.001), pytest.approx(0.939, abs=0.001)]


def test_a_checkpoint_has_no_bundle_to_record_in(played, tmp_path):
    with pytest.raises(UsageError, match="export the checkpoint first"):
        call(tmp_path / "out", checkpoint=tmp_path, record=True)


def test_the_same_command_again_runs_nothing(played, tmp_path):
    first = call(tmp_path)
    played.clear()
    assert call(tmp_path) == first
    assert played == []


def test_more_episodes_run_only_what_is_missing(played, tmp_path):
    call(tmp_path)
    played.clear()
    call(tmp_path, episodes=4)
    assert sorted(played) == [("push", "policy", 3), ("reach", "policy", 3)]


def test_a_half_written_last_line_costs_that_episode_and_nothing_else(played, tmp_path):
    first = call(tmp_path)
    path = tmp_path / "episodes.jsonl"
    path.write_text(path.read_text()[:-25])
    played.clear()
    assert call(tmp_path) == first
    assert len(played) == 1
    played.clear()
    assert call(tmp_path) == first
    assert played == []  # the episode that was repeated is safe on disk


@pytest.mark.parametrize(
    "changes",
    [{"seed": 1}, {"execute": 8}, {"ddim_steps": 5}, {"instruction": "go"}],
    ids=lambda c: next(iter(c)),
)
def test_results_of_another_protocol_are_never_mixed_in(played, tmp_path, changes):
    call(tmp_path)
    with pytest.raises(UsageError, match="holds results of another policy or protocol"):
        call(tmp_path, **changes)


def test_a_note_of_the_protocol_that_cannot_be_read_or_written_is_one_line(tmp_path):
    run_missing.keep_same_protocol(tmp_path / "out", {"seed": 0})
    note = tmp_path / "out" / "protocol.json"
    before = note.stat().st_ino
    run_missing.keep_same_protocol(tmp_path / "out", {"seed": 0})
    assert note.stat().st_ino == before  # never open for writing while there are results that it is about
    note.write_text("")
    with pytest.raises(UsageError, match=r"protocol\.json"):
        run_missing.keep_same_protocol(tmp_path / "out", {"seed": 0})
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be written"):
        run_missing.keep_same_protocol(tmp_path / "file", {"seed": 0})


def test_results_of_another_policy_are_never_mixed_in(played, tmp_path, monkeypatch):
    call(tmp_path)
    other = module.load_policy(None).spec.model_copy(update={"name": "other"})
    monkeypatch.setattr(module, "load_policy", lambda args: NullPolicy(other))
    with pytest.raises(UsageError, match="holds results of another policy"):
        call(tmp_path)


def test_results_of_another_checkpoint_of_the_same_run_are_never_mixed_in(played, tmp_path):
    """Two checkpoints share their contract; only their weights differ."""
    for name, weights in (("best", b"one"), ("last", b"two")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "ema.safetensors").write_bytes(weights)
    call(tmp_path / "out", checkpoint=tmp_path / "best")
    with pytest.raises(UsageError, match="holds results of another policy"):
        call(tmp_path / "out", checkpoint=tmp_path / "last")
    (tmp_path / "best" / "model.safetensors").write_bytes(b"raw")
    with pytest.raises(UsageError, match="holds results of another policy"):
        call(tmp_path / "out", checkpoint=tmp_path / "best", weights="model")
    call(tmp_path / "raw", checkpoint=tmp_path / "best", weights="model")
    assert ", raw weights" in (tmp_path / "raw" / "results.md").read_text()


def test_an_interrupted_evaluation_keeps_what_it_has(played, tmp_path, monkeypatch):
    right = module.run_job

    def interrupted(args, job):
        if len(played) == 4:
            raise KeyboardInterrupt
        return right(args, job)

    monkeypatch.setattr(run_missing, "as_completed", list)  # in the order of submission
    monkeypatch.setattr(module, "run_job", interrupted)
    with pytest.raises(KeyboardInterrupt):
        call(tmp_path)
    monkeypatch.setattr(module, "run_job", right)
    rows = call(tmp_path)
    assert sum(r.episodes for r in rows) == 6
    assert len(played) == len(set(played)) == 6


def test_a_worker_that_dies_is_one_line(played, tmp_path, monkeypatch):
    def killed(args, job):
        raise BrokenProcessPool

    monkeypatch.setattr(module, "run_job", killed)
    with pytest.raises(UsageError, match="a worker process died"):
        call(tmp_path)


def test_a_checkpoint_that_is_replaced_meanwhile_is_told(played, tmp_path, monkeypatch):
    weights, right = tmp_path / "best" / "ema.safetensors", module.run_job
    weights.parent.mkdir()
    weights.write_bytes(b"one")

    def and_replaced(args, job):
        weights.write_bytes(b"two")
        return right(args, job)

    monkeypatch.setattr(module, "run_job", and_replaced)
    with pytest.raises(UsageError, match="written anew while it was evaluated"):
        call(tmp_path / "out", checkpoint=tmp_path / "best")


def test_a_task_that_is_named_twice_is_counted_once(played, tmp_path):
    (found,) = call(tmp_path, tasks=("reach", "reach-v3,reach"))
    assert found.episodes == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks": ("rech",)}, "did you mean reach"),
        ({"tasks": ("",)}, "names no task"),
        ({"episodes": 0}, "--episodes, --execute and --workers must be at least 1"),
        ({"execute": 0}, "--episodes, --execute and --workers must be at least 1"),
        ({"workers": 0}, "--workers must be at least 1"),
        ({"execute": 49}, "a chunk of null has 48 actions"),
        ({"weights": "model"}, "--weights is for --checkpoint"),
        ({"ddim_steps": 0}, "ddim_steps"),
        ({"ddim_steps": 101}, "ddim_steps"),
    ],
)
def test_a_wrong_flag_is_one_line_and_leaves_nothing(played, tmp_path, changes, message):
    with pytest.raises(Exception, match=message) as caught:
        call(tmp_path / "out", **changes)
    assert type(caught.value).__name__ in ("UsageError", "TinyVLAError")
    assert not (tmp_path / "out").exists()


def test_a_policy_for_another_robot_is_refused(played, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "load_policy", lambda args: NullPolicy(null_spec()))
    with pytest.raises(UsageError, match="is not for MetaWorld: its state is s0, s1, s2, s3"):
        call(tmp_path)


def test_all_stands_for_the_fifty_tasks(played, tmp_path):
    call(tmp_path, tasks=("all",), episodes=1)
    assert sorted(task for task, _, _ in played) == sorted(TASKS)
