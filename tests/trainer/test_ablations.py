"""The ablations: each varies one thing, goes on where it was, and reports what was run."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path

import pytest
import tyro
from rich.console import Console

from policy.bundle import read_spec
from policy.errors import UsageError
from tests.benchmarks.ablations import parts as parts_module
from tests.benchmarks.ablations.__main__ import ablate, check
from tests.benchmarks.ablations.estimate import Took, corrections
from tests.benchmarks.ablations.parts import epochs_of, plan_parts, train_command
from tests.benchmarks.ablations.settings import GROUPS, AblationArgs
from tests.benchmarks.ablations.table import markdown, rows_of
from tests.benchmarks.ablations.variants import (
    DEFAULT,
    TRAININGS,
    all_variants,
    chosen_variants,
    trainings_of,
)
from tests.trainer.inline import Inline
from trainer import collect, sweep
from trainer.collection import worker as collection_worker
from trainer.evaluation import run_missing
from trainer.evaluation import worker as evaluation_worker
from trainer.settings import TrainArgs
from trainer.train import check_flags

ARGS = AblationArgs(tasks=("reach", "push"), episodes=4)


def parsed(command: list[str]) -> TrainArgs:
    return tyro.cli(TrainArgs, args=command)


def test_every_row_has_a_name_of_its_own_and_is_compared_with_one_that_is_there():
    rows = all_variants(200.0)
    assert len({row.name for row in rows}) == len(rows)
    assert len({row.says for row in rows}) == len(rows)
    for group in GROUPS:
        chosen = chosen_variants((group,), 200.0)
        assert len(chosen) > 1
        assert {row.against for row in chosen} <= {row.name for row in chosen}
    assert set(trainings_of(rows)) == set(TRAININGS)


def test_a_training_differs_from_the_default_in_what_is_varied_alone(tmp_path):
    args = dataclasses.replace(ARGS, out=tmp_path)
    default = dataclasses.asdict(parsed(train_command(args, DEFAULT, 1)))
    differs = {}
    for training in TRAININGS:
        one = parsed(train_command(args, training, 1))
        check_flags(one)
        found = dataclasses.asdict(one)
        differs[training.name] = {name for name in found if found[name] != default[name]} - {"name", "out"}
    assert differs == {
        "default": set(), "epsilon": {"prediction_type"}, "v_prediction": {"prediction_type"},
        "no-prefix": {"max_prefix"}, "no-shift": {"shift"}, "clean-data": {"dataset_dir"}, "regression": {"head"},
    }  # fmt: skip


def test_a_training_that_was_begun_goes_on(tmp_path):
    args = dataclasses.replace(ARGS, out=tmp_path)
    assert not parsed(train_command(args, DEFAULT, 0)).resume
    (args.run("default", 0) / "last").mkdir(parents=True)
    assert parsed(train_command(args, DEFAULT, 0)).resume


def write_frames(dataset: Path, frames: int) -> None:
    (dataset / "meta").mkdir(parents=True)
    (dataset / "meta" / "info.json").write_text(json.dumps({"total_frames": frames}))


def test_shorter_demonstrations_are_trained_on_for_as_many_steps(tmp_path):
    args = dataclasses.replace(ARGS, out=tmp_path, epochs=9)
    clean = next(training for training in TRAININGS if training.data == "clean")
    assert epochs_of(args, clean) == 9
    write_frames(args.data("noisy"), 1000)
    write_frames(args.data("clean"), 900)
    assert (epochs_of(args, DEFAULT), epochs_of(args, clean)) == (9, 10)


def test_what_took_longer_than_was_thought_lengthens_what_is_left_of_its_kind():
    took = [
        Took("train", "a", 30.0, 100.0, False), Took("train", "a", 170.0, 100.0, True),
        Took("train", "b", 9.0, 100.0, False),
    ]  # fmt: skip
    found = corrections(took)
    assert (found["train"], found["evaluate"]) == (2.0, 1.0)


def write_episodes(args: AblationArgs, name: str, seed: int, successes: dict[str, int]) -> None:
    """A journal in which the first episodes of each task succeed."""
    out = args.measured(name, seed)
    out.mkdir(parents=True)
    lines = [
        {"task": task, "episode": number, "success": number < count}
        for task, count in successes.items() for number in range(args.episodes)
    ]  # fmt: skip
    (out / "episodes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_the_table_counts_pairs_and_leaves_out_what_is_not_complete(tmp_path):
    args = dataclasses.replace(ARGS, out=tmp_path)
    for seed in args.seeds:
        write_episodes(args, "default", seed, {"reach": 2, "push": 2})
        write_episodes(args, "raw-weights", seed, {"reach": 3, "push": 2 + seed})
    write_episodes(args, "no-shift", 1, {"reach": 1, "push": 0})
    write_episodes(args, "regression", 0, {"reach": 1})  # still without push
    variants = chosen_variants(GROUPS, args.delay_ms)
    default, raw, shift = rows_of(args, variants)
    assert (default.by_seed, default.episodes, default.difference) == ((4, 4), 16, None)
    assert (raw.by_seed, raw.by_task) == ((5, 6), {"reach": 6, "push": 5})
    assert raw.difference is not None
    assert raw.difference.pairs == 8  # scenes; their two seeds are averaged
    assert raw.difference.difference == pytest.approx(3 / 16)
    assert raw.difference.low <= 3 / 16 <= raw.difference.high
    assert shift.seeds == (1,)
    assert shift.difference is not None
    assert shift.difference.difference == pytest.approx(-3 / 8)
    took = [Took("train", "default-seed0", 60.0, 1.0, True), Took("train", "default-seed1", 90.0, 1.0, True)]
    text = markdown(args, [default, raw, shift], [], took)
    assert "| ema | raw weights | 11/16 | 68.8 % | 44–86 % | +18.8 (" in text
    assert ") | 5/8, 6/8 | 2.5 | 0.0 |" in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks": ("rech",)}, "did you mean reach"),
        ({"tasks": ("reach", "reach")}, "give each task once"),
        ({"episodes": 0}, "must be 1 or more"),
        ({"seeds": ()}, "with a seed"),
    ],
)
def test_a_wrong_flag_is_one_line(changes, message):
    with pytest.raises(UsageError, match=message):
        check(dataclasses.replace(ARGS, **changes))


def test_the_plan_says_how_long_and_does_nothing(tmp_path):
    text = io.StringIO()
    ablate(AblationArgs(out=tmp_path / "out", plan=True), Console(file=text))
    assert "train      14 parts left, 0 done, about " in text.getvalue()
    assert "min in all" in text.getvalue()
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_everything_from_demonstrations_to_the_table_and_what_was_interrupted_goes_on(
    tmp_path, monkeypatch, small_vision
):
    for module in (collect, run_missing):
        monkeypatch.setattr(module, "simulation_workers", Inline)
    monkeypatch.setattr(collection_worker, "_WORKER", {})
    for module in (evaluation_worker, sweep):
        monkeypatch.setattr(module, "_PLACE", type(module._PLACE)())
    args = AblationArgs(
        out=tmp_path / "out", only=("temperature", "prefix", "ema", "noise"), tasks=("reach",), episodes=2, seeds=(0,),
        epochs=1, demonstrations=4, size=32, hidden_dim=24, layers=1, batch_size=16, workers=1,
    )  # fmt: skip
    right = parts_module.evaluate

    def interrupted(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr(parts_module, "evaluate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ablate(args, Console(file=io.StringIO()))
    monkeypatch.setattr(parts_module, "evaluate", right)
    monkeypatch.setattr(parts_module, "collect", interrupted)  # done: neither is asked for again
    monkeypatch.setattr(parts_module.train, "main", interrupted)
    ablate(args, Console(file=io.StringIO()))
    told = json.loads((args.out / "ablations.json").read_text())
    assert {row["name"]: row["episodes"] for row in told["rows"]} == {
        "default": 2, "no-prefix": 2, "late-rtc": 2, "late-receding": 2, "late-no-prefix": 2, "raw-weights": 2,
        "clean-data": 2, "sample-2-no-noise": 2, "sample-10-no-noise": 2, "epsilon-10-no-noise": 2,
        "v_prediction-10-no-noise": 2, "no-prefix-no-noise": 2, "clean-data-no-noise": 2,
    }  # fmt: skip
    spec = read_spec(args.run("default", 0) / "bundle-temperature0")
    assert spec.sampler is not None
    assert spec.sampler.temperature == 0
    assert {run["training"] for run in told["trainings"]} == {
        "default", "epsilon", "v_prediction", "no-prefix", "clean-data",
    }  # fmt: skip
    assert all(run["validation_loss"] for run in told["trainings"])
    finished = {(one["kind"], one["name"]) for one in told["wall_times"] if one["finished"]}
    assert finished == {
        (part.kind, part.name) for part in plan_parts(args, chosen_variants(args.only, 200.0))
    }
    ablate(args, Console(file=io.StringIO()))  # nothing is left to do
    assert json.loads((args.out / "ablations.json").read_text()) == told
    with pytest.raises(UsageError, match="choose another --out"):
        ablate(dataclasses.replace(args, epochs=2), Console(file=io.StringIO()))
