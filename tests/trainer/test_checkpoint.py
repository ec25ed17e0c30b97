"""Checkpoints come back as they were, are never half there, and hold no pickle."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from policy.checksums import write_checksums
from policy.errors import UsageError
from policy.networks.config import NetworkConfig
from policy.networks.network import PolicyNetwork
from policy.null import null_spec
from trainer import checkpoint as module
from trainer.checkpoint import load_checkpoint, restore_optimizer, save_checkpoint
from trainer.ema import EMA
from trainer.optimizer import make_optimizer

SPEC = null_spec(size=16, horizon=8, max_prefix=4)
TINY = NetworkConfig(
    vision_widths=(8, 8), blocks_per_stage=1, keypoints=4, text_dim=8, hidden_dim=24, layers=1, heads=2,
    context_tokens=2, fusion_dim=16,
)  # fmt: skip

FILES = ("model.safetensors", "ema.safetensors", "optimizer.safetensors", "state.json")


class Run:
    """A network that has taken a few optimiser steps."""

    def __init__(self, seed: int = 0, steps: int = 2) -> None:
        torch.manual_seed(seed)
        self.network = PolicyNetwork(SPEC, TINY).to(memory_format=torch.channels_last)
        self.ema = EMA(self.network, 0.9)
        self.optimizer = make_optimizer(self.network, 1e-3, 0.01)
        for step in range(steps):
            self.step(step)

    def step(self, number: int) -> None:
        generator = torch.Generator().manual_seed(number)
        for parameter in self.network.parameters():
            # In the parameter's own memory layout, as autograd makes it.
            parameter.grad = torch.empty_like(parameter).copy_(
                torch.randn(parameter.shape, generator=generator)
            )
        self.optimizer.step()
        self.ema.update(self.network, number + 1)

    def save(self, directory: Path, **state) -> None:
        save_checkpoint(directory, self.network, self.ema.module, self.optimizer, SPEC, state)


def assert_same(one: dict, other: dict) -> None:
    assert set(one) == set(other)
    for key in one:
        assert torch.equal(one[key], other[key]), key


def test_everything_comes_back_to_the_bit(tmp_path):
    run = Run()
    run.save(tmp_path / "last", progress={"steps": 2}, arguments={"seed": 3})
    found = load_checkpoint(tmp_path / "last")
    assert found.spec == SPEC
    assert found.network == TINY
    assert found.state["progress"] == {"steps": 2}
    assert found.state["arguments"] == {"seed": 3}
    assert_same(found.model, run.network.state_dict())
    assert_same(found.ema, run.ema.module.state_dict())
    assert_same(found.build("ema").state_dict(), run.ema.module.state_dict())
    assert_same(found.build("model").state_dict(), run.network.state_dict())
    assert not found.build().training


def test_an_optimiser_put_back_goes_on_as_if_nothing_had_happened(tmp_path):
    straight, broken = Run(), Run()
    broken.save(tmp_path / "last")
    found = load_checkpoint(tmp_path / "last")
    resumed = Run(seed=99, steps=0)
    resumed.network.load_state_dict(found.model)
    resumed.ema.module.load_state_dict(found.ema)
    restore_optimizer(resumed.optimizer, resumed.network, found.optimizer)
    for run in (straight, resumed):
        run.step(2)
        run.step(3)
    assert_same(resumed.network.state_dict(), straight.network.state_dict())
    assert_same(resumed.ema.module.state_dict(), straight.ema.module.state_dict())


def test_an_optimiser_is_put_back_where_its_parameters_are(tmp_path):
    """All of it: a fused optimiser on a card takes no step count from the processor's memory."""
    Run().save(tmp_path / "last")
    elsewhere = PolicyNetwork(SPEC, TINY).to("meta")  # stands in for a card
    optimizer = make_optimizer(elsewhere, 1e-3, 0.01)
    restore_optimizer(optimizer, elsewhere, load_checkpoint(tmp_path / "last").optimizer)
    for parameter in elsewhere.parameters():
        kept = optimizer.state[parameter]
        assert set(kept) == {"step", "exp_avg", "exp_avg_sq"}
        assert {value.device for value in kept.values()} == {parameter.device}


def test_a_checkpoint_holds_safetensors_and_json_and_no_pickle(tmp_path):
    Run().save(tmp_path / "last")
    names = {path.name for path in (tmp_path / "last").iterdir()}
    assert names == {*FILES, "SHA256SUMS"}
    for path in (tmp_path / "last" / name for name in FILES):
        data = path.read_bytes()
        if path.suffix == ".json":
            json.loads(data)
        else:  # a length, then a JSON header
            size = int.from_bytes(data[:8], "little")
            json.loads(data[8 : 8 + size])
        assert b"PK\x03\x04" not in data[:4]  # torch.save writes zip files of pickles


def test_nothing_there_is_said(tmp_path):
    with pytest.raises(UsageError, match="no checkpoint at"):
        load_checkpoint(tmp_path / "last")


@pytest.mark.parametrize("name", [*FILES, "SHA256SUMS"])
@pytest.mark.parametrize("position", [0.1, 0.5, 0.999])
def test_a_single_flipped_bit_anywhere_is_noticed(tmp_path, name, position):
    """In the middle of a tensor nothing but a hash can tell."""
    Run().save(tmp_path / "last")
    path = tmp_path / "last" / name
    data = bytearray(path.read_bytes())
    data[int(position * len(data))] ^= 1
    path.write_bytes(data)
    with pytest.raises(UsageError, match=r"the checkpoint at .*last is damaged: "):
        load_checkpoint(tmp_path / "last")


def test_a_checkpoint_from_before_there_were_checksums_is_read(tmp_path):
    Run().save(tmp_path / "last", progress={"steps": 2})
    (tmp_path / "last" / "SHA256SUMS").unlink()
    assert load_checkpoint(tmp_path / "last").state["progress"] == {"steps": 2}


def test_a_run_is_no_damaged_checkpoint_but_holds_some(tmp_path):
    Run().save(tmp_path / "run" / "best")
    with pytest.raises(UsageError, match=r"is a run; name one of its checkpoints, such as .*best"):
        load_checkpoint(tmp_path / "run")


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="coreutils are not installed")
def test_a_person_can_check_a_checkpoint_with_sha256sum(tmp_path):
    Run().save(tmp_path / "last")
    command = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    found = subprocess.run(command, cwd=tmp_path / "last", capture_output=True, text=True)
    assert found.returncode == 0
    assert found.stdout.count(": OK") == len(FILES)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["truncated", "missing", "empty", "noise"])
def test_a_damaged_checkpoint_is_one_line(tmp_path, name, damage):
    Run().save(tmp_path / "last")
    path = tmp_path / "last" / name
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"truncated": data[: len(data) // 2], "empty": b"", "noise": b"\x93" * 500}[damage])
    with pytest.raises(UsageError, match=r"the checkpoint at .*last is damaged") as caught:
        load_checkpoint(tmp_path / "last")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("document", ["[]", "{}", '{"format": "other/1"}', "null"])
def test_another_kind_of_file_is_no_checkpoint(tmp_path, document):
    Run().save(tmp_path / "last")
    (tmp_path / "last" / "state.json").write_text(document)
    write_checksums(tmp_path / "last", FILES)
    with pytest.raises(UsageError, match=r"last is (damaged|no tinyvla-checkpoint/1)"):
        load_checkpoint(tmp_path / "last")


def test_a_wrong_contract_inside_is_one_line(tmp_path):
    Run().save(tmp_path / "last")
    path = tmp_path / "last" / "state.json"
    document = json.loads(path.read_text())
    document["spec"]["horizon"] = -1
    path.write_text(json.dumps(document))
    write_checksums(tmp_path / "last", FILES)
    with pytest.raises(UsageError) as caught:
        load_checkpoint(tmp_path / "last")
    assert "\n" not in str(caught.value)


class Killed(BaseException):
    """Stands in for SIGKILL at one place."""


def kill_at_call(patch: pytest.MonkeyPatch, number: int) -> None:
    """Of what saving does to the disk."""
    calls = []

    def counted(function):
        def wrapped(*args, **kwargs):
            calls.append(function)
            if len(calls) == number:
                raise Killed
            return function(*args, **kwargs)

        return wrapped

    patch.setattr(module, "save_file", counted(module.save_file))
    patch.setattr(Path, "write_text", counted(Path.write_text))
    patch.setattr(Path, "rename", counted(Path.rename))
    patch.setattr(shutil, "rmtree", counted(shutil.rmtree))


@pytest.mark.parametrize("kill_at", range(1, 11))
def test_a_kill_at_any_moment_of_saving_leaves_the_old_or_the_new_checkpoint(tmp_path, monkeypatch, kill_at):
    old, new = Run(seed=1), Run(seed=2)
    directory = tmp_path / "last"
    old.save(directory, progress={"steps": 1})
    kill_at_call(monkeypatch, kill_at)
    with pytest.raises(Killed):
        new.save(directory, progress={"steps": 2})
    monkeypatch.undo()
    found = load_checkpoint(directory)
    expected = {1: old, 2: new}[found.state["progress"]["steps"]]
    assert_same(found.model, expected.network.state_dict())
    new.save(directory, progress={"steps": 2})  # and the next save is not hindered by what was left
    assert load_checkpoint(directory).state["progress"]["steps"] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


@pytest.mark.parametrize("kill_at", range(1, 9))
def test_a_second_kill_after_one_between_the_renames_leaves_a_checkpoint_too(tmp_path, monkeypatch, kill_at):
    run, directory = Run(steps=1), tmp_path / "last"
    run.save(directory, progress={"steps": 1})
    directory.rename(tmp_path / "last.old")
    kill_at_call(monkeypatch, kill_at)
    with pytest.raises(Killed):
        run.save(directory, progress={"steps": 2})
    monkeypatch.undo()
    assert load_checkpoint(directory).state["progress"]["steps"] in (1, 2)


@pytest.mark.parametrize("where", ["save_file", "write_checksums"])
def test_a_full_disk_is_one_line_and_the_checkpoint_before_stays(tmp_path, monkeypatch, where):
    run = Run(steps=1)
    run.save(tmp_path / "last", progress={"steps": 1})

    def full(*_):
        raise {
            "save_file": SafetensorError("Error while serializing: No space left on device (os error 28)"),
            "write_checksums": OSError(errno.ENOSPC, "No space left on device"),
        }[where]

    monkeypatch.setattr(module, where, full)
    with pytest.raises(UsageError, match=r"last: cannot be written \(.*No space left.*make room") as caught:
        run.save(tmp_path / "last", progress={"steps": 2})
    assert "\n" not in str(caught.value)
    assert load_checkpoint(tmp_path / "last").state["progress"] == {"steps": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["last"]
