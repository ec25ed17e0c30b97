"""Two policies on the same episodes: known tests' numbers, pairs that are pairs, and a word on fairness."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rich.console import Console

import tinyvla
from clients.rig_sim.parameters import DEFAULT_FILE
from clients.robots.needle_rig_contract import rig_spec
from policy.errors import UsageError
from policy.networks.config import NetworkConfig
from policy.networks.network import PolicyNetwork
from policy.null import NullPolicy, null_spec
from policy.observation import Observation
from tests.trainer.inline import Inline
from tests.trainer.rig_episodes import episode
from trainer import compare as module
from trainer import evaluate as evaluate_module
from trainer import evaluate_needle_rig as rig_module
from trainer.checkpoint import save_checkpoint
from trainer.compare import compare
from trainer.comparison import latency, metaworld, needle_rig
from trainer.comparison.film import Filmed, KeepingRenderer, mosaic
from trainer.comparison.latency import Latency
from trainer.comparison.paired import compare_success, compare_values
from trainer.comparison.settings import CompareArgs, evaluation_of, place_of
from trainer.comparison.training import read_training, unfair_because, verdict
from trainer.evaluation import run_missing
from trainer.evaluation.rollout import EpisodeResult
from trainer.settings import TrainArgs, arguments_of

ARGUMENTS = {
    "head": "diffusion", "epochs": 3, "batch_size": 8, "draws": 4, "seed": 0, "out": "runs/a", "ddim_steps": 10,
    "init_from": None, "split_seed": 0,
}  # fmt: skip
TINY = NetworkConfig(
    vision_widths=(8, 8), blocks_per_stage=1, keypoints=4, text_dim=8, hidden_dim=24, layers=1, heads=2,
    context_tokens=2, fusion_dim=16,
)  # fmt: skip


# ---- tests on pairs


@pytest.mark.parametrize(
    ("only_first", "only_second", "p_value"),
    [(0, 0, 1.0), (5, 0, 0.0625), (1, 9, 0.021484375), (6, 4, 0.75390625), (12, 12, 1.0)],
)
def test_mcnemars_exact_p_is_the_binomials(only_first, only_second, p_value) -> None:
    pairs = (
        [(True, True)] * 7
        + [(True, False)] * only_first
        + [(False, True)] * only_second
        + [(False, False)] * 3
    )
    found = compare_success(*zip(*pairs, strict=True))
    assert (found.both, found.only_first, found.only_second, found.neither) == (7, only_first, only_second, 3)
    assert found.p_value == pytest.approx(p_value)


def test_values_are_compared_over_the_pairs_that_both_have() -> None:
    rng = np.random.default_rng(1)
    base = rng.normal(size=60)
    first = [float(v) for v in base]
    second = [float(v) for v in base + 0.3 + 0.1 * rng.normal(size=60)]
    found = compare_values([None, *first], [5.0, *second])
    assert found.pairs == 60
    assert found.difference == pytest.approx(np.mean(second) - np.mean(first))
    # The bootstrap's interval is close to the normal one of the differences, not of two unpaired means.
    half = 1.96 * np.std(np.subtract(second, first), ddof=1) / np.sqrt(60)
    assert found.low == pytest.approx(found.difference - half, abs=0.3 * half)
    assert found.high == pytest.approx(found.difference + half, abs=0.3 * half)
    assert found.differs
    assert not compare_values(first, first[::-1]).differs
    assert compare_values(first, second) == compare_values(first, second)


def test_one_pair_has_no_interval_and_none_has_no_difference() -> None:
    one = compare_values([1.0, None], [3.0, 2.0])
    assert (one.pairs, one.difference, one.low, one.differs) == (1, 2.0, None, False)
    assert compare_values([None], [None]).difference is None


# ---- fairness


def checkpoint(directory: Path, spec=None, data: str = "aa", processes: int = 1, **arguments) -> Path:
    torch.manual_seed(0)
    spec = spec or rig_spec(height=18, width=32, name=directory.parent.name)
    if arguments.get("head") == "regression":
        spec = spec.model_copy(update={"head": "regression", "sampler": None})
    network = PolicyNetwork(spec, TINY)
    state = {
        "progress": {"steps": 12}, "arguments": {**ARGUMENTS, **arguments},
        "data_hashes": {directory.parent.name: data}, "processes": processes,
    }  # fmt: skip
    save_checkpoint(directory, network, network, torch.optim.AdamW(network.parameters()), spec, state)
    return directory


def test_only_what_belongs_to_the_head_may_differ(tmp_path) -> None:
    one = read_training(checkpoint(tmp_path / "one" / "best"))
    other = read_training(
        checkpoint(tmp_path / "other" / "best", head="regression", out="elsewhere", ddim_steps=3).parent
    )
    assert (one.steps, other.spec.head) == (12, "regression")
    assert unfair_because(one, other) == []
    assert (
        verdict([], [12, 12]) == "A fair comparison of heads: same data, budget, seed, encoder and settings."
    )
    assert verdict([], [12, 1_200]).endswith(
        "Of the budget these weights have had 12 against 1,200 optimiser steps."
    )


def test_a_policy_older_than_a_flag_was_trained_with_its_default(tmp_path) -> None:
    old = read_training(checkpoint(tmp_path / "old" / "best"))
    now = arguments_of(TrainArgs(dataset_dir=())) | ARGUMENTS
    new = read_training(
        checkpoint(tmp_path / "new" / "best", **{**now, "head": "regression", "feature_cache_gb": 5.0})
    )
    assert (unfair_because(old, new), unfair_because(new, old)) == ([], [])


def test_what_counts_is_the_batches_of_a_step_however_many_processes_share_them(tmp_path) -> None:
    spread = read_training(checkpoint(tmp_path / "spread" / "best", processes=4, grad_accum=1, fsdp=True))
    alone = read_training(checkpoint(tmp_path / "alone" / "best", head="regression", grad_accum=4))
    assert unfair_because(spread, alone) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"epochs": 4}, "--epochs: 3 against 4"),
        ({"batch_size": 16}, "--batch-size: 8 against 16"),
        ({"draws": 1}, "--draws: 4 against 1"),
        ({"sensor_dropout": 0.5}, "--sensor-dropout: 0.1 against 0.5"),
        ({"grad_accum": 4}, "batches a step: 1 against 4"),
        ({"processes": 4}, "batches a step: 1 against 4"),
        ({"seed": 1}, "--seed: 0 against 1"),
        ({"init_from": "runs/x"}, "--init-from: None against runs/x; which weights"),
        ({"data": "bb"}, "different data"),
        ({"head": "diffusion"}, "both are diffusion policies"),
        ({"spec": rig_spec(views=("view1",), height=18, width=32)}, "they see other cameras"),
    ],
)
def test_whatever_else_differs_is_named(tmp_path, change, told) -> None:
    one = read_training(checkpoint(tmp_path / "one" / "best"))
    other = read_training(checkpoint(tmp_path / "other" / "best", **{"head": "regression", **change}))
    because = unfair_because(one, other)
    assert [told in reason for reason in because] == [True]
    assert verdict(because).startswith("NOT a fair comparison")


def test_fine_tuning_from_weights_of_the_same_name_is_not_called_fair(tmp_path) -> None:
    one = read_training(checkpoint(tmp_path / "one" / "best", init_from="best"))
    other = read_training(checkpoint(tmp_path / "other" / "best", head="regression", init_from="best"))
    [reason] = unfair_because(one, other)
    assert "which weights these were is not recorded" in reason


def test_a_policy_that_does_not_say_how_it_was_trained_is_never_called_fair(tmp_path) -> None:
    one = read_training(checkpoint(tmp_path / "one" / "best"))
    silent = replace(one, arguments={}, data=())
    assert unfair_because(one, silent) == ["how B was trained is not recorded"]
    assert unfair_because(silent, silent) == ["how A and B were trained is not recorded"]
    sized = replace(
        one, network={**one.network, "layers": 9}, spec=one.spec.model_copy(update={"head": "regression"})
    )
    assert unfair_because(one, sized) == ["their networks differ in size"]


# ---- films and latency


def test_a_film_has_every_picture_that_was_rendered() -> None:
    class Renderer:
        def render(self, *scene):
            return {
                name: np.full((9, 16, 3), shade, np.uint8) for name, shade in zip("abc", scene, strict=True)
            }

    keeping = KeepingRenderer(Renderer())
    assert set(keeping.render(10, 20, 30)) == {"a", "b", "c"}
    keeping.render(40, 50, 60)
    assert len(keeping.frames) == 2
    frame = keeping.frames[0]
    assert frame.shape == (54, 96, 3)  # two by two, three times as large
    assert [int(frame[y, x, 0]) for y, x in ((5, 5), (5, 90), (50, 5), (50, 90))] == [10, 20, 30, 0]
    odd = mosaic({"a": np.zeros((5, 7, 3), np.uint8)})
    assert (odd.shape[0] % 2, odd.shape[1] % 2) == (0, 0)


def test_latency_is_taken_in_turns(monkeypatch) -> None:
    """On a clock that only the policies move: 2 ms for one, 5 ms for the other."""
    asked: list[str] = []
    now = [0.0]

    class Timed(NullPolicy):
        def predict(self, observations, options, features=None):
            asked.append(self.spec.name)
            now[0] += {"a": 0.002, "b": 0.005}[self.spec.name]
            return super().predict(observations, options, features)

    monkeypatch.setattr(latency, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    spec = null_spec(size=8)
    policies = [Timed(spec.model_copy(update={"name": name})) for name in "ab"]
    seen = Observation({spec.cameras[0].name: np.zeros((8, 8, 3), np.uint8)}, np.zeros(4, np.float32))
    found = latency.measure_latency(policies, [seen, seen], None)
    assert "".join(asked) == "ab" * 33
    assert [(one.p50_ms, one.p95_ms) for one in found] == [(2.0, 2.0), (5.0, 5.0)]


# ---- the command


@pytest.fixture
def two(tmp_path, monkeypatch) -> tuple[Path, Path]:
    """Two checkpoints, and neither simulator nor film: B docks deeper off the axis, and fails every other scene."""
    rig = rig_spec(height=18, width=32)

    def rig_job(args, job):
        blind = 0.0 if args.sensor else 0.4
        if "A-" in args.out.name:
            return episode(job.episode, docking_lateral=0.1, depth_error=-0.05 - blind)
        return episode(job.episode, job.episode % 2 == 0, docking_lateral=0.2, depth_error=0.05 + blind)

    def metaworld_job(args, job):
        success = args.out.name == "A" or job.episode % 2 == 0
        return EpisodeResult(
            job.task, job.actor, job.episode, job.episode, success, 40 if success else 500, 1.0
        )

    monkeypatch.setattr(rig_module, "run_rig_job", rig_job)
    monkeypatch.setattr(evaluate_module, "run_job", metaworld_job)
    monkeypatch.setattr(evaluate_module, "camera_setup", lambda spec: (("view1",), 18))
    monkeypatch.setattr(run_missing, "simulation_workers", Inline)
    frames = [np.zeros((18, 32, 3), np.uint8)] * 3
    film = lambda args, number: Filmed(frames, 5.0, NullPolicy(rig), None)  # type: ignore[arg-type]  # noqa: E731
    monkeypatch.setattr(module, "film_needle_rig", film)
    monkeypatch.setattr(module, "film_metaworld", film)
    monkeypatch.setattr(
        module, "measure_latency", lambda *_: [Latency(9.0, 10.0, "eager"), Latency(1.0, 2.0, "onnx")]
    )
    return checkpoint(tmp_path / "a" / "best"), checkpoint(tmp_path / "b" / "best", head="regression")


def call(two, out: Path, **changes):
    values = {"first": two[0], "second": two[1].parent, "out": out, "episodes": 6, "workers": 1, **changes}
    return compare(CompareArgs(**values), Console(file=io.StringIO()))


def test_the_rig_is_run_with_sensor_and_without_and_paired_by_scene(two, tmp_path) -> None:
    out = tmp_path / "out"
    outcome = call(two, out, robot="needle-rig")
    told = json.loads((out / "compare.json").read_text())
    assert told["fair"] is True
    assert [(row["actor"], row["successes"]) for row in told["rows"]] == [
        ("A diffusion, sensor on", 6),
        ("B regression, sensor on", 3),
        ("A diffusion, sensor off", 6),
        ("B regression, sensor off", 3),
    ]
    titles = {pairing.title: pairing for pairing in outcome.pairings}
    assert list(titles) == [
        "A against B, sensor on", "A against B, sensor off", "A, sensor on against off", "B, sensor on against off",
    ]  # fmt: skip
    on = titles["A against B, sensor on"]
    assert (on.successes["success"].only_first, on.successes["success"].both) == (3, 3)
    lateral, _ = on.values["lateral error at docking, mm"]
    assert (lateral.pairs, lateral.difference) == (6, pytest.approx(0.1))
    depth, _ = titles["A, sensor on against off"].values["depth error, mm"]
    assert depth.difference == pytest.approx(0.4)
    text = (out / "compare.md").read_text()
    for words in (
        "A fair comparison",
        "Simulation (needle rig)",
        "scenes 1000–1005",
        "9.0 ms (median)",
        "| differs |",
    ):
        assert words in text
    assert (out / "compare.png").read_bytes().startswith(b"\x89PNG")
    for letter in "AB":
        assert (out / f"film-{letter}.mp4").stat().st_size > 0
    assert len((out / "A-sensor-off" / "episodes.jsonl").read_text().splitlines()) == 6


def test_an_unfair_comparison_is_made_and_called_unfair(two, tmp_path) -> None:
    longer = checkpoint(tmp_path / "c" / "best", head="regression", epochs=30)
    call((two[0], longer), tmp_path / "out", robot="needle-rig", sensor="on", film=False)
    told = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert (told["fair"], told["unfair_because"]) == (False, ["--epochs: 3 against 30"])
    assert (
        "NOT a fair comparison of heads: --epochs: 3 against 30."
        in (tmp_path / "out" / "compare.md").read_text()
    )
    assert not list((tmp_path / "out").glob("*.mp4"))


def test_metaworld_is_paired_by_task_and_goal(two, tmp_path) -> None:
    outcome = call(two, tmp_path / "out", tasks=("reach", "push"), execute=8)
    (pairing,) = outcome.pairings
    assert list(pairing.successes) == ["success, all tasks", "reach", "push"]
    together = pairing.successes["success, all tasks"]
    assert (together.both, together.only_first) == (6, 6)
    assert together.p_value == pytest.approx(2 / 2**6)
    assert pairing.values["steps to success"][0].pairs == 6
    assert "Simulation (MetaWorld)" in (tmp_path / "out" / "compare.md").read_text()


def test_episodes_of_other_scenes_are_no_pairs() -> None:
    with pytest.raises(ValueError, match="no pairs"):
        needle_rig.pairing("", [episode(0)], [episode(1)])
    one = EpisodeResult("reach", "A", 0, 1, True, 40, 1.0)
    with pytest.raises(ValueError, match="no pairs"):
        metaworld.pairing("", [one], [replace(one, seed=2)])


def test_what_cannot_be_compared_is_one_line_and_leaves_nothing(two, tmp_path, capsys) -> None:
    needing = rig_spec(height=18, width=32)
    needing = needing.model_copy(
        update={"sensors": (needing.sensors[0].model_copy(update={"optional": False}),)}
    )
    deaf = checkpoint(tmp_path / "d" / "best", spec=needing)
    out = tmp_path / "out"
    for paths, flags, told in (
        ((tmp_path / "nothing", two[0]), [], "is no policy bundle, no checkpoint, and no run"),
        ((two[0], two[0].parent), [], "A and B are both"),
        ((two[0], deaf), [], "was not trained to do without needle_tip"),
        ((two[0], two[1]), ["--execute", "17"], "a chunk of"),
        ((two[0], two[1]), ["--tasks", "reach"], "--tasks is for MetaWorld"),
        ((two[0], two[1]), ["--robot", "metaworld", "--sensor", "off"], "--sensor is for --robot needle-rig"),
    ):
        argv = ["compare", *map(str, paths), "--robot", "needle-rig", "--out", str(out), *flags]
        assert tinyvla.main(argv) == 2
        error = capsys.readouterr().err
        assert told in error
        assert error.count("\n") == 1
        assert not out.exists()
    call((two[0], deaf), out, robot="needle-rig", sensor="on")


def test_each_policy_gets_the_evaluation_that_was_asked_for(two, tmp_path) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "policy.json").touch()
    args = CompareArgs(
        tmp_path / "bundle", two[1].parent, out=tmp_path, robot="needle-rig", episodes=7, seed=5
    )
    first, second = (evaluation_of(args, number, sensor=False) for number in range(2))
    assert (first.bundle, first.checkpoint) == (tmp_path / "bundle", None)
    assert (second.bundle, second.checkpoint) == (None, two[1])
    assert {first.out.name, second.out.name} == {"A-sensor-off", "B-sensor-off"}
    assert (second.episodes, second.seed, second.sensor, second.robot) == (7, 5, False, "needle-rig")
    with pytest.raises(UsageError, match="is no policy bundle"):
        place_of(tmp_path)


def test_an_insertion_is_filmed_as_the_policy_sees_it(two, tmp_path) -> None:
    text = DEFAULT_FILE.read_text()
    for name, old, new in (("width", "128", "32"), ("height", "72", "18"), ("time_limit", "40.0", "0.6")):
        text = text.replace(f"{name} = {{ value = {old}", f"{name} = {{ value = {new}")
    short = tmp_path / "short.toml"
    short.write_text(text)
    args = CompareArgs(*two, robot="needle-rig", rig_parameters=short, ddim_steps=2)
    filmed = needle_rig.film_needle_rig(args, 0)
    assert filmed.fps == 5.0
    assert len(filmed.frames) == 4  # 0.6 s, and the end
    assert filmed.frames[0].shape == (108, 288, 3)
    assert filmed.frames[0].std() > 5
    assert set(filmed.observation.images) == {f"view{i}" for i in range(1, 6)}
    assert filmed.policy.spec.head == "diffusion"
