"""Flags of `tinyvla train`: presets by size, both spellings, and one line for a value that cannot work."""

from __future__ import annotations

from pathlib import Path

import pytest
import tyro

import tinyvla
from trainer.optimizer import learning_rate, make_optimizer
from trainer.settings import TrainArgs, preset_for, with_preset


def parse(*flags: str) -> TrainArgs:
    return tyro.cli(TrainArgs, args=["--dataset-dir", "data", *flags])


@pytest.mark.parametrize(
    ("samples", "preset"), [(1, "small"), (999, "small"), (1000, "medium"), (5000, "medium"), (5001, "large")]
)
def test_the_preset_follows_from_the_number_of_samples(samples, preset):
    assert preset_for(samples) == preset


def test_a_preset_fills_in_what_was_not_given_and_nothing_else():
    filled = with_preset(parse("--lr", "0.5", "--patience", "0"), 3000)
    assert (filled.epochs, filled.batch_size, filled.lr, filled.patience) == (30, 8, 0.5, 0)
    chosen = with_preset(parse("--preset", "large"), 10)
    assert (chosen.epochs, chosen.batch_size, chosen.lr, chosen.patience) == (50, 16, 5e-5, 15)
    assert isinstance(chosen.epochs, int)


def test_debug_takes_two_epochs_whatever_the_preset():
    assert with_preset(parse("--debug"), 10_000).epochs == 2


@pytest.mark.parametrize(
    ("spellings", "field", "value"),
    [
        (("--bs", "--batch-size", "--batch_size"), "batch_size", 7),
        (("--grad-accum", "--grad_accum"), "grad_accum", 3),
        (("--warmup-ratio", "--warmup_ratio"), "warmup_ratio", 0.2),
        (("--max-grad-norm", "--max_grad_norm"), "max_grad_norm", 2.5),
        (("--diffusion-timesteps", "--diffusion_timesteps"), "diffusion_timesteps", 50),
        (("--hidden-dim", "--hidden_dim"), "hidden_dim", 96),
        (("--val-split", "--val_split"), "val_split", 0.3),
        (("--prediction-type", "--prediction_type"), "prediction_type", "epsilon"),
        (("--epochs",), "epochs", 5),
        (("--lr",), "lr", 1e-5),
        (("--patience",), "patience", 4),
        (("--seed",), "seed", 9),
        (("--split-seed",), "split_seed", 9),
        (("--head",), "head", "regression"),
    ],
)
def test_every_spelling_of_a_flag_means_the_same(spellings, field, value):
    for flag in spellings:
        assert getattr(parse(flag, str(value)), field) == value


def test_several_datasets_may_be_given():
    args = tyro.cli(TrainArgs, args=["--dataset", "one", "two"])
    assert args.dataset_dir == (Path("one"), Path("two"))


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--horizon", "50"], "--horizon"),
        (["--horizon", "0"], "--horizon"),
        (["--hidden-dim", "100"], "--hidden-dim"),
        (["--max-prefix", "48"], "--max-prefix"),
        (["--max-prefix", "-1"], "--max-prefix"),
        (["--epochs", "0"], "--epochs"),
        (["--bs", "0"], "--batch-size"),
        (["--lr", "0"], "--lr"),
        (["--lr", "nan"], "--lr"),
        (["--patience", "-1"], "--patience"),
        (["--grad-accum", "0"], "--grad-accum"),
        (["--draws", "0"], "--draws"),
        (["--ddim-steps", "0"], "--ddim-steps"),
        (["--diffusion-timesteps", "0"], "--diffusion-timesteps"),
        (["--val-split", "1.5"], "--val-split"),
        (["--val-split", "-0.1"], "--val-split"),
        (["--state-dropout", "2"], "--state-dropout"),
        (["--sensor-dropout", "-0.1"], "--sensor-dropout"),
        (["--sensor-loss-weight", "0"], "--sensor-loss-weight"),
        (["--max-grad-norm", "0"], "--max-grad-norm"),
        (["--shift", "-1"], "--shift"),
        (["--layers", "0"], "--layers"),
        (["--device", "toaster"], "--device"),
        (["--seed", "-1"], "--seed"),
        (["--split-seed", "-1"], "--split-seed"),
        (["--save-every", "-5"], "--save-every"),
    ],
)
def test_a_value_that_cannot_work_is_one_line_naming_the_flag(dataset, tmp_path, capsys, flags, named):
    out = tmp_path / "run"
    assert tinyvla.main(["train", "--dataset-dir", str(dataset), "--out", str(out), *flags]) == 2
    line = capsys.readouterr().err.strip()
    assert line.startswith(f"tinyvla train: {named} ")
    assert "\n" not in line
    assert not out.exists()


def test_the_learning_rate_warms_up_and_follows_a_cosine_down_to_a_hundredth():
    rates = [learning_rate(step, 1000, 1e-3, 0.1) for step in range(1000)]
    assert rates[0] == pytest.approx(1e-5)
    assert rates[99] == rates[100] == max(rates) == 1e-3
    assert rates[:100] == sorted(rates[:100])
    assert rates[100:] == sorted(rates[100:], reverse=True)
    assert rates[550] == pytest.approx(1e-3 * (0.01 + 0.99 / 2), rel=1e-6)
    assert rates[-1] == pytest.approx(1e-5, rel=0.01)
    assert learning_rate(5000, 1000, 1e-3, 0.1) == pytest.approx(1e-5)


@pytest.mark.parametrize(("total", "ratio"), [(1, 0.03), (3, 0.0), (10, 1.0)])
def test_the_learning_rate_is_positive_for_the_shortest_runs(total, ratio):
    assert all(0 < learning_rate(step, total, 1e-3, ratio) <= 1e-3 for step in range(total))


def test_weight_decay_is_for_matrices_only():
    import torch

    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4))
    optimizer = make_optimizer(module, 1e-3, 0.01)
    decayed = {id(p) for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}
    assert decayed == {id(module[0].weight)}
    assert all(group["betas"] == (0.9, 0.95) for group in optimizer.param_groups)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 4
