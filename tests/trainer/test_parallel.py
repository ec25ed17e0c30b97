"""Several processes train what one process trains: DDP and FSDP over gloo on processors, and runs that change over."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from policy.errors import UsageError
from trainer import train
from trainer.checkpoint import load_checkpoint
from trainer.epoch_log import EPOCHS, read_epochs
from trainer.train import Trainer

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("small_vision")]

# `tinyvla train` with networks of a few channels. Each process notes the batches that it passes; BROKEN are not finite.
_CHILD = """
import dataclasses, functools, json, math, os, sys
from policy.networks.config import NetworkConfig
from trainer import network_choice, train
tiny = dict(vision_widths=(8, 8), blocks_per_stage=1, keypoints=4, text_dim=8, fusion_dim=16, context_tokens=2)
network_choice.NetworkConfig = functools.partial(NetworkConfig, **tiny)
seen, prepared, compute = [], train.Trainer.prepared, train.compute_losses
broken = json.loads(os.environ["BROKEN"])

def watch(self, number):
    seen.append(number)
    return prepared(self, number)

def losses(network, spec, example, corruption, *more):
    found = compute(network, spec, example, corruption, *more)
    losses.calls += 1
    bad = os.environ["RANK"] == "1" and losses.calls - 1 in broken
    return dataclasses.replace(found, action=found.action * math.nan) if bad else found

losses.calls = 0
train.Trainer.prepared, train.compute_losses = watch, losses
code = train.main(sys.argv[1:])
with open(os.environ["SEEN"] + os.environ["RANK"], "w") as file:
    json.dump(seen, file)
sys.exit(code)
"""


def flags_of(args) -> list[str]:
    """The settings of `make_args` as a person would give them."""
    named = {
        "--dataset-dir": args.dataset_dir[0], "--out": args.out, "--epochs": args.epochs, "--bs": args.batch_size,
        "--lr": args.lr, "--patience": 0, "--horizon": args.horizon, "--max-prefix": args.max_prefix,
        "--draws": args.draws, "--hidden-dim": args.hidden_dim, "--layers": args.layers,
        "--val-split": args.val_split, "--precision": args.precision, "--device": "cpu", "--threads": 1,
        "--grad-accum": args.grad_accum, "--save-every": 1, "--pictures-every": 1, "--log-every": 1,
    }  # fmt: skip
    given = [text for name, value in named.items() for text in (name, str(value))]
    return given + ["--resume"] * args.resume + ["--fsdp"] * args.fsdp


def launch(args, tmp_path: Path, broken: tuple[int, ...] = ()) -> tuple[str, list[list[int]]]:
    """Train in two processes; returns what was printed and the batches that each of them passed."""
    script = tmp_path / "child.py"
    script.write_text(_CHILD)
    environment = {
        **os.environ, "OMP_NUM_THREADS": "1", "BROKEN": json.dumps(broken), "SEEN": str(tmp_path / "seen"),
        "PYTHONPATH": str(Path(train.__file__).parents[1]),
    }  # fmt: skip
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        str(script),
    ]
    done = subprocess.run([*command, *flags_of(args)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-3000:]
    return done.stdout, [json.loads((tmp_path / f"seen{rank}").read_text()) for rank in range(2)]


def assert_close(one: Path, other: Path) -> None:
    """Weights, averages and moments: equal but for the order in which floats were added; progress the same."""
    first, second = load_checkpoint(one), load_checkpoint(other)
    assert first.model.keys() == second.model.keys()
    assert first.optimizer.keys() == second.optimizer.keys()
    for name in second.optimizer:
        atol = 1e-10 if name.endswith("/exp_avg_sq") else 1e-6
        torch.testing.assert_close(
            first.optimizer[name], second.optimizer[name], rtol=1e-3, atol=atol, msg=name
        )
    for name in second.model:
        # What a softmax ignores has no gradient but rounding, of which Adam makes steps of full size.
        squares = second.optimizer.get(f"{name}/exp_avg_sq", torch.zeros_like(second.model[name]))
        learnt = squares > 1e-14
        for part in ("model", "ema"):
            mine, theirs = getattr(first, part)[name], getattr(second, part)[name]
            torch.testing.assert_close(
                mine[learnt], theirs[learnt], rtol=1e-4, atol=1e-6, msg=f"{part} {name}"
            )
            torch.testing.assert_close(mine, theirs, rtol=0, atol=5e-3, msg=f"{part} {name}")
    mine, theirs = first.state["progress"], second.state["progress"]
    for name in ("batches", "steps", "skipped", "epochs_without_gain"):
        assert mine[name] == theirs[name]
    assert mine["validation"] == pytest.approx(theirs["validation"], rel=1e-4)


@pytest.fixture
def alone(make_args, tmp_path) -> Path:
    """Two epochs of five batches in one process, two batches a step: the last step of an epoch has one."""
    Trainer(make_args(out=tmp_path / "alone", grad_accum=2)).run()
    return tmp_path / "alone"


@pytest.mark.parametrize("fsdp", [False, True], ids=["ddp", "fsdp"])
def test_two_processes_take_over_from_one_and_one_from_two(make_args, alone, tmp_path, monkeypatch, fsdp):
    """The run of `alone`, cut off after the first step, gone on with by two processes, then again by one."""
    right = train.save_checkpoint

    def dies(*args):
        right(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "save_checkpoint", dies)
    with pytest.raises(KeyboardInterrupt):
        Trainer(make_args(grad_accum=2)).run()
    monkeypatch.setattr(train, "save_checkpoint", right)
    assert load_checkpoint(tmp_path / "run" / "last").state["progress"]["batches"] == 2

    told, (first, second) = launch(make_args(resume=True, fsdp=fsdp), tmp_path)
    assert_close(tmp_path / "run" / "last", alone / "last")
    assert_close(tmp_path / "run" / "best", alone / "best")
    # Five batches an epoch: the second process has none of its own in the last round.
    assert first == [2, 4, 5, 7, 9]
    assert second == [3, 4, 6, 8, 9]
    assert len(re.findall(r"^Epoch 0[12] ", told, re.MULTILINE)) == 2  # only one of them speaks
    assert "cpu fp32, 2 processes" in told
    mine, theirs = (read_epochs(run / EPOCHS) for run in (tmp_path / "run", alone))
    assert [epoch.epoch for epoch in mine] == [0, 1]
    for one, other in zip(mine, theirs, strict=True):
        assert (one.loss, one.validation) == pytest.approx((other.loss, other.validation), rel=1e-4)
        assert one.gradient_norm == pytest.approx(other.gradient_norm, rel=1e-4)

    longer = {"grad_accum": 2, "epochs": 3, "resume": True}
    Trainer(make_args(**longer)).run()
    Trainer(make_args(out=alone, **longer)).run()
    assert_close(tmp_path / "run" / "last", alone / "last")
    with pytest.raises(
        UsageError, match="trained with 2 batches a step; --grad-accum 1 on 1 process makes 1"
    ):
        Trainer(make_args(epochs=4, resume=True))


@pytest.mark.parametrize("fsdp", [False, True], ids=["ddp", "fsdp"])
def test_a_batch_that_is_broken_in_one_process_costs_its_step_in_all(make_args, tmp_path, fsdp):
    told, _ = launch(make_args(epochs=1, fsdp=fsdp), tmp_path, broken=(1,))
    assert "| Skipped: 1" in told
    found = load_checkpoint(tmp_path / "run" / "last")
    assert (found.state["progress"]["steps"], found.state["progress"]["skipped"]) == (3, 1)
    assert all(torch.isfinite(tensor).all() for tensor in found.model.values())
    moments = {name: value for name, value in found.optimizer.items() if name.endswith("/step")}
    assert {int(step) for step in moments.values()} == {2}  # of three steps one was not taken
