"""Training runs: a killed one resumes to the bit, broken batches are skipped and told, wrong calls are one line."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import tinyvla
from policy.errors import UsageError
from policy.export.write_bundle import write_bundle
from trainer import train as module
from trainer.checkpoint import load_checkpoint
from trainer.epoch_log import EPOCHS, read_epochs
from trainer.settings import arguments_of
from trainer.train import Trainer
from trainer.validation import Validation

pytestmark = pytest.mark.usefixtures("small_vision")


class Killed(BaseException):
    """Stands in for SIGKILL."""


def assert_same_result(one: Path, other: Path) -> None:
    """Weights, averages, moments, and where the run stands: all equal to the bit."""
    first, second = load_checkpoint(one), load_checkpoint(other)
    for part in ("model", "ema", "optimizer"):
        mine, theirs = getattr(first, part), getattr(second, part)
        assert set(mine) == set(theirs)
        for name in mine:
            assert torch.equal(mine[name], theirs[name]), f"{part} {name}"
    assert first.state["progress"] == second.state["progress"]


@pytest.fixture(scope="session")
def unbroken_runs() -> dict[str, Path]:
    return {}


VARIANTS = {
    "diffusion": {},
    "regression, accumulated": {"head": "regression", "grad_accum": 2, "epochs": 3},
}


@pytest.mark.slow
@pytest.mark.parametrize("kill_at_save", [1, 2, 5, 7])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_killed_run_resumes_to_the_result_of_an_unbroken_one(
    make_args, tmp_path, tmp_path_factory, unbroken_runs, monkeypatch, variant, kill_at_save
):
    changes = VARIANTS[variant]
    if variant not in unbroken_runs:
        unbroken_runs[variant] = tmp_path_factory.mktemp("unbroken") / "run"
        Trainer(make_args(out=unbroken_runs[variant], **changes)).run()

    saves, right = [], module.save_checkpoint

    def dies(*args):
        right(*args)
        saves.append(args[0])
        if len(saves) == kill_at_save:
            raise Killed

    monkeypatch.setattr(module, "save_checkpoint", dies)
    with pytest.raises(Killed):
        Trainer(make_args(**changes)).run()
    monkeypatch.setattr(module, "save_checkpoint", right)
    if not (tmp_path / "run" / "last").exists():
        pytest.fail("the run was killed before there was anything to resume from")
    Trainer(make_args(resume=True, **changes)).run()
    assert_same_result(tmp_path / "run" / "last", unbroken_runs[variant] / "last")
    assert_same_result(tmp_path / "run" / "best", unbroken_runs[variant] / "best")


_CHILD = """
import os, sys
from trainer import train
right, left = train.save_checkpoint, [int(sys.argv[1])]
def save(*args):
    right(*args)
    left[0] -= 1
    if left[0] == 0:
        os._exit(9)  # no cleaning up, as SIGKILL
train.save_checkpoint = save
sys.exit(train.main(sys.argv[2:]))
"""


@pytest.mark.slow
def test_a_process_killed_in_the_middle_of_an_epoch_resumes_to_the_bit(dataset, tmp_path):
    """As a person would do it: the command, a kill, the same command with --resume."""
    flags = [
        "--dataset-dir", str(dataset), "--epochs", "2", "--bs", "8", "--lr", "1e-3", "--patience", "0",
        "--horizon", "8", "--max-prefix", "4", "--draws", "1", "--hidden-dim", "24", "--layers", "1",
        "--val-split", "0.2", "--precision", "fp32", "--threads", "1", "--save-every", "1",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def run(name: str, saves: int, *more: str) -> int:
        command = [sys.executable, "-c", _CHILD, str(saves), *flags, "--out", str(tmp_path / name), *more]
        return subprocess.run(command, env=environment, capture_output=True).returncode

    assert run("unbroken", -1) == 0
    assert run("killed", 3) == 9
    assert load_checkpoint(tmp_path / "killed" / "last").state["progress"]["batches"] == 3  # of five an epoch
    assert run("killed", -1, "--resume") == 0
    assert_same_result(tmp_path / "killed" / "last", tmp_path / "unbroken" / "last")


def test_the_seed_decides_the_result(make_args, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        Trainer(make_args(out=tmp_path / name, seed=seed, epochs=1, save_every=0)).run()
    assert_same_result(tmp_path / "a" / "last", tmp_path / "b" / "last")
    one, other = (load_checkpoint(tmp_path / name / "last").model for name in ("a", "c"))
    assert any(not torch.equal(one[key], other[key]) for key in one)


def test_a_finished_run_is_not_trained_further_by_resuming(make_args, tmp_path):
    Trainer(make_args(epochs=1)).run()
    before = (tmp_path / "run" / "last" / "model.safetensors").read_bytes()
    Trainer(make_args(epochs=1, resume=True)).run()
    assert (tmp_path / "run" / "last" / "model.safetensors").read_bytes() == before


def test_a_run_that_ran_out_of_patience_is_not_trained_further_by_resuming(make_args, tmp_path, monkeypatch):
    worse = iter(range(100))
    monkeypatch.setattr(Trainer, "validate", lambda self: Validation(float(next(worse)), np.zeros(3)))
    Trainer(make_args(epochs=9, patience=2)).run()
    found = load_checkpoint(tmp_path / "run" / "last")
    assert found.state["progress"]["batches"] == 3 * 5  # one better epoch, then two without a gain
    Trainer(make_args(epochs=9, patience=2, resume=True)).run()
    again = load_checkpoint(tmp_path / "run" / "last")
    assert again.state["progress"] == found.state["progress"]
    assert load_checkpoint(tmp_path / "run" / "best").state["progress"]["batches"] == 5


def test_resuming_with_another_contract_is_refused(make_args):
    Trainer(make_args(epochs=1)).run()
    with pytest.raises(UsageError, match=r"--prediction-type sample, not epsilon; give it as it was"):
        Trainer(make_args(epochs=1, resume=True, prediction_type="epsilon"))


@pytest.mark.parametrize(
    "changes", [{"batch_size": 4}, {"draws": 1}, {"lr": 1e-4}, {"grad_accum": 2}, {"seed": 3}]
)
def test_resuming_with_settings_that_change_the_run_is_refused_naming_the_flag(make_args, changes):
    Trainer(make_args(epochs=1)).run()
    with pytest.raises(UsageError, match=r"drop --resume"):
        Trainer(make_args(epochs=2, resume=True, **changes))


def test_a_run_from_before_a_flag_may_be_resumed(make_args, monkeypatch):
    new = ("sensor_dropout", "sensor_loss_weight")
    with monkeypatch.context() as before:
        before.setattr(
            module, "arguments_of", lambda args: {k: v for k, v in arguments_of(args).items() if k not in new}
        )
        Trainer(make_args(epochs=1)).run()
    assert Trainer(make_args(epochs=2, resume=True)).progress.batches
    with pytest.raises(UsageError, match="--sensor-loss-weight"):
        Trainer(make_args(epochs=2, resume=True, sensor_loss_weight=2.0))


def test_a_run_from_before_the_temperature_could_be_chosen_keeps_drawing_from_full_noise(
    make_args, monkeypatch
):
    with monkeypatch.context() as before:
        before.setattr(
            module,
            "arguments_of",
            lambda args: {k: v for k, v in arguments_of(args).items() if k != "temperature"},
        )
        Trainer(make_args(epochs=1, temperature=1.0)).run()
    with pytest.raises(UsageError, match=r"with --temperature 1\.0, not 0\.0"):
        Trainer(make_args(epochs=2, resume=True))
    assert Trainer(make_args(epochs=2, resume=True, temperature=1.0)).spec.sampler.temperature == 1


def test_whatever_the_seed_the_same_episodes_are_held_out(make_args, tmp_path):
    def held_out(**changes):
        return [list(episodes) for _, episodes in Trainer(make_args(val_split=0.5, **changes)).data.splits]

    assert held_out(seed=0) == held_out(seed=1) == held_out(seed=2)
    assert any(held_out(split_seed=other) != held_out() for other in (1, 2, 3))


def test_a_run_whose_held_out_episodes_were_chosen_by_its_seed_goes_on_with_them(make_args, monkeypatch):
    with monkeypatch.context() as before:
        before.setattr(
            module,
            "arguments_of",
            lambda args: {k: v for k, v in arguments_of(args).items() if k != "split_seed"},
        )
        Trainer(make_args(epochs=1, seed=3, split_seed=3)).run()
    with pytest.raises(UsageError, match="with --split-seed 3, not 0; give it as it was"):
        Trainer(make_args(epochs=2, seed=3, resume=True))
    assert Trainer(make_args(epochs=2, seed=3, split_seed=3, resume=True)).progress.batches


def test_a_run_and_its_data_may_be_renamed_before_it_is_resumed(make_args, make_dataset, tmp_path):
    data = make_dataset(tmp_path / "data", [8] * 6, size=32, scale=0.01)
    Trainer(make_args(dataset_dir=(data,), epochs=1)).run()
    data, run = data.rename(tmp_path / "demonstrations"), (tmp_path / "run").rename(tmp_path / "kept")
    Trainer(make_args(dataset_dir=(data,), out=run, epochs=2, resume=True)).run()
    found = load_checkpoint(run / "last")
    assert found.state["progress"]["batches"] == 2 * 5
    assert found.spec.name == "run"
    with pytest.raises(UsageError, match="with --name None, not other"):
        Trainer(make_args(dataset_dir=(data,), out=run, resume=True, name="other"))


def test_a_run_whose_contract_lists_instructions_of_held_out_episodes_may_be_resumed(make_args):
    first = Trainer(make_args(epochs=1))
    told = first.spec.instruction
    first.spec = first.spec.model_copy(
        update={"instruction": told.model_copy(update={"by_task": {**told.by_task, "other": ("another",)}})}
    )
    first.save("last")
    assert Trainer(make_args(epochs=1, resume=True)).spec.instruction == first.spec.instruction


def test_speed_counts_the_samples_that_there_are(make_args, tmp_path, monkeypatch):
    """A clock of one second an epoch; the only batch could hold 64 samples and holds 40."""
    seconds = itertools.count()
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: next(seconds)))
    Trainer(make_args(batch_size=64)).run()
    assert [epoch.samples_per_second for epoch in read_epochs(tmp_path / "run" / EPOCHS)] == [40, 40]


def test_the_same_datasets_in_another_order_are_other_batches(make_args, make_dataset, tmp_path):
    """Their contract is the same."""
    one, two = (make_dataset(tmp_path / str(n), [8] * n, size=32, scale=0.01) for n in (3, 4))
    Trainer(make_args(dataset_dir=(one, two), epochs=1)).run()
    with pytest.raises(UsageError, match="give --dataset-dir as it was"):
        Trainer(make_args(dataset_dir=(two, one), epochs=2, resume=True))


def test_a_run_may_be_resumed_for_more_epochs(make_args):
    Trainer(make_args(epochs=1)).run()
    longer = Trainer(make_args(epochs=2, resume=True))
    longer.run()
    assert longer.progress.batches == 2 * longer.per_epoch


def test_trailing_batches_of_an_epoch_are_applied(make_args, monkeypatch):
    """Five batches, three to a step: the step of the last two must not wait for the next epoch, or be lost."""
    seen, right = [], torch.optim.AdamW.step

    def step(self, *args, **kwargs):
        seen.append([p.grad is not None for group in self.param_groups for p in group["params"]])
        return right(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    trainer = Trainer(make_args(epochs=2, grad_accum=3))
    assert trainer.total_steps == 4
    trainer.run()
    assert trainer.progress.steps == 4
    assert trainer.progress.batches == 10
    assert len(seen) == 4
    assert all(any(gradients) for gradients in seen)
    assert all(p.grad is None for p in trainer.network.parameters())


def broken(numbers):
    """`compute_losses` whose passes of these numbers are not finite."""
    right, calls = module.compute_losses, []

    def losses(network, spec, example, *rest):
        found = right(network, spec, example, *rest)
        calls.append(1)
        if len(calls) - 1 in numbers:
            return dataclasses.replace(found, action=found.action * math.nan)
        return found

    return losses


def test_a_broken_batch_is_skipped_counted_and_does_no_harm(make_args, monkeypatch, capsys):
    monkeypatch.setattr(module, "compute_losses", broken({1, 3}))
    trainer = Trainer(make_args(epochs=1, val_split=0.0))
    trainer.run()
    assert trainer.progress.skipped == 2
    assert all(torch.isfinite(p).all() for p in trainer.network.parameters())
    assert all(torch.isfinite(p).all() for p in trainer.ema.module.parameters())
    told = capsys.readouterr().out
    assert "| Skipped: 2" in told
    assert "Position error" not in told  # there is nothing held out to measure it on


def test_an_epoch_whose_batches_were_all_skipped_has_no_loss(make_args, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "compute_losses", broken(range(10_000)))
    Trainer(make_args(epochs=1, val_split=0.0, pictures_every=0)).run()
    (told,) = read_epochs(tmp_path / "run" / EPOCHS)
    assert math.isnan(told.loss)
    assert told.skipped == 6


@pytest.mark.parametrize("grad_accum", [1, 4])
def test_a_run_whose_batches_are_all_broken_is_stopped_with_a_diagnosis(make_args, monkeypatch, grad_accum):
    monkeypatch.setattr(module, "compute_losses", broken(range(10_000)))
    trainer = Trainer(make_args(epochs=50, grad_accum=grad_accum, val_split=0.0))
    with pytest.raises(UsageError, match=r"not finite 20 times in a row .*learning rate .*extreme values"):
        trainer.run()
    assert trainer.progress.batches == 20


def test_gradients_that_are_never_finite_stop_the_run_too(make_args, monkeypatch):
    """The loss may be finite when its gradient is not."""
    right = torch.nn.utils.clip_grad_norm_

    def infinite(parameters, most):
        return right(parameters, most) * math.inf

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", infinite)
    trainer = Trainer(make_args(epochs=50, val_split=0.0))
    before = {name: p.clone() for name, p in trainer.network.named_parameters()}
    with pytest.raises(UsageError, match="not finite 20 times in a row"):
        trainer.run()
    for name, parameter in trainer.network.named_parameters():
        assert torch.equal(parameter, before[name]), name


def test_broken_batches_that_are_far_apart_do_not_stop_a_run(make_args, monkeypatch):
    monkeypatch.setattr(module, "compute_losses", broken(range(0, 10_000, 2)))
    trainer = Trainer(make_args(epochs=9, val_split=0.0, save_every=0))
    trainer.run()
    assert trainer.progress.batches == 54
    assert trainer.progress.skipped == 27


def test_training_lowers_the_loss_and_logs_it(make_args, tmp_path, capsys):
    Trainer(make_args(epochs=12, lr=3e-3, save_every=0, keep_every=6)).run()
    lines = capsys.readouterr().out.splitlines()
    pattern = (
        r"Epoch \d\d \| Loss: (\d+\.\d{4}) \| Val: \d+\.\d{4} \| Grad: \d+\.\d\d \| LR: \d\.\de-\d\d \| "
        r"Mem: \d+MB \| \d+ samples/s"
    )
    losses = [float(match[1]) for line in lines if (match := re.match(pattern, line))]
    assert len(losses) == 12
    assert losses[-1] < 0.7 * losses[0]
    assert (tmp_path / "run" / "log.txt").read_text().splitlines() == lines
    kept = {path.name for path in (tmp_path / "run").iterdir() if path.is_dir()}
    assert kept == {"best", "last", "epoch6", "epoch12", "tensorboard"}
    assert any((tmp_path / "run" / "tensorboard").iterdir())


def test_the_best_checkpoint_is_the_one_of_the_lowest_validation_loss(make_args, tmp_path, monkeypatch):
    values = iter([0.5, 0.3, 0.4, 0.2, 0.6])
    monkeypatch.setattr(Trainer, "validate", lambda self: Validation(next(values), np.zeros(3)))
    Trainer(make_args(epochs=5, save_every=0)).run()
    assert load_checkpoint(tmp_path / "run" / "best").state["progress"]["batches"] == 4 * 5
    assert load_checkpoint(tmp_path / "run" / "last").state["progress"]["validation"] == [
        0.5,
        0.3,
        0.4,
        0.2,
        0.6,
    ]


def test_a_network_that_has_diverged_is_not_the_best_and_its_epochs_are_logged(
    make_args, tmp_path, monkeypatch
):
    values = iter([0.5, math.nan, math.nan])
    monkeypatch.setattr(Trainer, "validate", lambda self: Validation(v := next(values), np.full(3, v)))
    Trainer(make_args(epochs=9, patience=2, save_every=0, pictures_every=0)).run()
    assert load_checkpoint(tmp_path / "run" / "best").state["progress"]["batches"] == 5
    told = read_epochs(tmp_path / "run" / EPOCHS)
    assert [epoch.validation for epoch in told] == pytest.approx([0.5, math.nan, math.nan], nan_ok=True)
    assert math.isnan(told[-1].position_errors["goal_x"])


def test_validation_judges_the_averaged_weights_on_held_out_episodes_with_the_same_noise(make_args):
    trainer = Trainer(make_args())
    held_out = {frame for part in trainer.data.held_out.parts for frame in part.frames}
    trained = {frame for part in trainer.data.train.parts for frame in part.frames}
    assert not held_out & trained
    assert len(held_out) == 8
    first, again = trainer.validate().loss, trainer.validate().loss
    assert first == again
    with torch.no_grad():
        for parameter in trainer.network.parameters():
            parameter.add_(1.0)
    assert trainer.validate().loss == first  # the raw weights are not what is judged
    with torch.no_grad():
        for parameter in trainer.ema.module.parameters():
            parameter.add_(1.0)
    assert trainer.validate().loss != first


def test_every_frame_of_the_training_episodes_is_trained_on(make_args, numbers_of, monkeypatch):
    trained, right = [], module.compute_losses

    def watch(network, spec, example, *rest):
        if network.training:
            trained.extend(numbers_of(example.images[:, 0].numpy()).tolist())
        return right(network, spec, example, *rest)

    monkeypatch.setattr(module, "compute_losses", watch)
    trainer = Trainer(make_args(epochs=1))
    trainer.run()
    expected = [frame for part in trainer.data.train.parts for frame in part.frames.tolist()]
    assert sorted(trained) == sorted(expected)
    assert len(expected) == 40


def test_debug_runs_two_short_epochs(make_args):
    trainer = Trainer(make_args(debug=True, batch_size=4, epochs=None))
    trainer.run()
    assert trainer.progress.batches == 8


def test_fine_tuning_starts_from_the_weights_and_statistics_of_a_checkpoint(make_args, tmp_path):
    Trainer(make_args(epochs=1, out=tmp_path / "first")).run()
    found = load_checkpoint(tmp_path / "first" / "best")
    tuned = Trainer(make_args(init_from=tmp_path / "first" / "best", val_split=0.0, seed=8))
    for name, tensor in tuned.network.state_dict().items():
        assert torch.equal(tensor, found.ema[name])
    assert tuned.spec.normalization == found.spec.normalization
    with pytest.raises(UsageError, match=r"--init-from .* has another shape"):
        Trainer(make_args(init_from=tmp_path / "first" / "best", layers=2))


def test_fine_tuning_starts_from_a_bundle_too(make_args, tmp_path):
    first = Trainer(make_args(out=tmp_path / "first"))
    write_bundle(tmp_path / "bundle", first.network, first.spec)
    tuned = Trainer(make_args(init_from=tmp_path / "bundle", seed=8))
    for name, tensor in tuned.network.state_dict().items():
        if not name.startswith("encoder.auxiliary."):
            assert torch.equal(tensor, first.network.state_dict()[name])


def test_fine_tuning_from_a_policy_with_other_cameras_is_refused(make_args, tmp_path):
    first = Trainer(make_args(epochs=1, out=tmp_path / "first"))
    other = [camera.model_copy(update={"name": camera.name + "_moved"}) for camera in first.spec.cameras]
    first.spec = first.spec.model_copy(update={"cameras": tuple(other)})
    first.save("best")
    with pytest.raises(UsageError, match="its cameras are"):
        Trainer(make_args(init_from=tmp_path / "first" / "best"))


def test_fine_tuning_on_data_that_move_further_is_refused(make_args, make_dataset, tmp_path):
    data = {
        scale: make_dataset(tmp_path / str(scale), [8] * 6, size=32, scale=scale) for scale in (0.01, 0.02)
    }
    Trainer(make_args(dataset_dir=(data[0.01],), out=tmp_path / "first")).save("best")
    with pytest.raises(UsageError, match="nothing beyond could be learnt"):
        Trainer(make_args(dataset_dir=(data[0.02],), init_from=tmp_path / "first" / "best"))
    Trainer(make_args(dataset_dir=(data[0.02],), out=tmp_path / "wider")).save("best")
    Trainer(make_args(dataset_dir=(data[0.01],), init_from=tmp_path / "wider" / "best"))


def test_a_fine_tuned_run_goes_on_without_what_it_began_from(make_args, tmp_path):
    began = tmp_path / "first" / "best"
    Trainer(make_args(out=tmp_path / "first", val_split=0.0)).save("best")  # statistics of more episodes
    tuned = Trainer(make_args(init_from=began))
    tuned.save("last")
    Trainer(make_args(out=tmp_path / "scratch")).save("last")
    shutil.rmtree(tmp_path / "first")
    for given in (began, None):
        resumed = Trainer(make_args(init_from=given, resume=True))
        assert resumed.spec == tuned.spec
        assert resumed.args.init_from == began
    with pytest.raises(UsageError, match="scratch/last did not begin with --init-from; leave it out"):
        Trainer(make_args(out=tmp_path / "scratch", init_from=began, resume=True))


def test_fine_tuning_on_other_auxiliary_targets_starts_their_head_anew(make_args, tmp_path):
    Trainer(make_args(epochs=1, out=tmp_path / "first", auxiliary=())).run()
    found = load_checkpoint(tmp_path / "first" / "best")
    fresh = Trainer(make_args(seed=8)).network.state_dict()
    tuned = Trainer(make_args(init_from=tmp_path / "first" / "best", seed=8)).network.state_dict()
    for name, tensor in tuned.items():
        assert torch.equal(tensor, (fresh if name.startswith("encoder.auxiliary.") else found.ema)[name])


def test_fine_tuning_from_a_policy_with_another_sensor_is_refused(make_args, make_dataset, tmp_path):
    times = np.arange(40) / 100
    data = make_dataset(tmp_path / "data", [8] * 6, size=32, scale=0.01, streams=[times] * 6)
    first = Trainer(make_args(dataset_dir=(data,), out=tmp_path / "first"))
    (sensor,), normalization = first.spec.sensors, first.spec.normalization
    first.spec = first.spec.model_copy(
        update={
            "sensors": (sensor.model_copy(update={"name": "torque"}),),
            "normalization": normalization.model_copy(
                update={"sensors": {"torque": normalization.sensors[sensor.name]}}
            ),
        }
    )
    first.save("best")
    with pytest.raises(
        UsageError, match=r"its sensors are \['torque \[2 x N\]'\], the dataset's are \['tip \[2 x N\]'\]"
    ):
        Trainer(make_args(dataset_dir=(data,), init_from=tmp_path / "first" / "best"))


def test_fine_tuning_from_numbers_that_mean_something_else_is_refused(make_args, make_dataset, tmp_path):
    times = np.arange(40) / 100
    data = make_dataset(tmp_path / "data", [8] * 6, size=32, scale=0.01, streams=[times] * 6)
    first = Trainer(make_args(dataset_dir=(data,), out=tmp_path / "first"))
    right = first.spec
    others = {
        r"actions are \['absolute dx": {"action": right.action.model_copy(update={"kind": "absolute"})},
        r"sensors are \['tip \[2 x mN\]": {"sensors": (right.sensors[0].model_copy(update={"units": "mN"}),)},
    }
    for told, change in others.items():
        first.spec = right.model_copy(update=change)
        first.save("best")
        with pytest.raises(UsageError, match=told):
            Trainer(make_args(dataset_dir=(data,), init_from=tmp_path / "first" / "best"))


def refusal(capsys, *flags: object) -> str:
    assert tinyvla.main(["train", *map(str, flags)]) == 2
    line = capsys.readouterr().err.strip()
    assert line.startswith("tinyvla train: ")
    assert "\n" not in line
    return line


def test_a_missing_dataset_is_one_line(tmp_path, capsys):
    line = refusal(capsys, "--dataset-dir", tmp_path / "nowhere", "--out", tmp_path / "run")
    assert "nowhere: no such dataset directory" in line


def test_a_half_written_dataset_is_one_line(make_dataset, tmp_path, capsys):
    root = make_dataset(tmp_path / "data", [3, 3])
    (root / "meta" / "info.json").unlink()
    assert "half-written dataset" in refusal(capsys, "--dataset-dir", root, "--out", tmp_path / "run")


def test_a_damaged_dataset_is_one_line(make_dataset, tmp_path, capsys):
    root = make_dataset(tmp_path / "data", [3, 3])
    path = next((root / "data").glob("*/*.parquet"))
    path.write_bytes(path.read_bytes()[:-40])
    assert "damaged" in refusal(capsys, "--dataset-dir", root, "--out", tmp_path / "run")


def test_an_existing_run_is_never_overwritten_without_being_told_to(make_args, tmp_path, dataset, capsys):
    Trainer(make_args(epochs=1)).run()
    line = refusal(capsys, "--dataset-dir", dataset, "--out", tmp_path / "run")
    assert "already holds a run; add --resume" in line


def test_a_trial_writes_over_a_trial_and_over_nothing_else(make_args, tmp_path, dataset, capsys):
    small = ("--dataset-dir", dataset, "--horizon", 8, "--max-prefix", 4, "--hidden-dim", 24, "--layers", 1)
    trial = [*map(str, small), "--val-split", "0.2", "--device", "cpu", "--debug"]
    Trainer(make_args(epochs=1)).run()
    before = (tmp_path / "run" / "log.txt").read_text()
    line = refusal(capsys, *trial, "--out", tmp_path / "run")
    assert "already holds a run; choose another --out" in line
    assert (tmp_path / "run" / "log.txt").read_text() == before
    for _ in range(2):
        assert tinyvla.main(["train", *trial, "--out", str(tmp_path / "trial")]) == 0


def test_a_shift_out_of_the_picture_is_one_line(tmp_path, dataset, capsys):
    line = refusal(capsys, "--dataset-dir", dataset, "--out", tmp_path / "run", "--shift", 32)
    assert "--shift must be below 32, the pictures' shorter side, got 32" in line


def test_there_must_be_something_to_resume(tmp_path, dataset, capsys):
    line = refusal(capsys, "--dataset-dir", dataset, "--out", tmp_path / "run", "--resume", "--horizon", 8,
                   "--max-prefix", 4)  # fmt: skip
    assert "no checkpoint at" in line


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_where_there_is_none_is_one_line(tmp_path, dataset, capsys):
    line = refusal(capsys, "--dataset-dir", dataset, "--out", tmp_path / "run", "--device", "cuda")
    assert "this torch sees no CUDA device" in line


def test_a_checkpoint_tells_how_it_was_made(make_args, tmp_path, dataset):
    from clients.lerobot_v3 import dataset_hash

    Trainer(make_args(epochs=1)).run()
    state = load_checkpoint(tmp_path / "run" / "last").state
    assert state["arguments"]["lr"] == 1e-3
    assert state["arguments"]["seed"] == 0
    assert state["data_hashes"] == {"numbers": dataset_hash(dataset)}
    json.dumps(state)
