"""`--backbone`: training through a vision-language model, frozen or with adapters."""

from __future__ import annotations

import dataclasses

import pytest
import torch

import tinyvla
from policy.errors import UsageError
from policy.networks.backbone import files as backbone_files
from policy.networks.backbone.files import find_backbone, find_recorded
from tests.tiny_backbones import write_backbone
from trainer import train
from trainer.checkpoint import load_checkpoint
from trainer.settings import check_flags
from trainer.train import Trainer


@pytest.fixture
def args(make_args, backbone_at):
    return make_args(backbone=str(backbone_at()), epochs=1)


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in trainer.network.state_dict().items()}


def test_a_run_through_a_frozen_backbone_learns_the_head_and_records_what_it_saw_through(args, backbone_at):
    files = find_backbone(str(backbone_at()), download=False)
    before = files.sha256()
    trainer = Trainer(args)
    start = weights(trainer)
    trainer.run()
    moved = {
        name for name, tensor in trainer.network.state_dict().items() if not torch.equal(tensor, start[name])
    }
    assert {"encoder.projection.weight", "encoder.state.0.weight"} <= moved
    assert files.sha256() == before

    found = load_checkpoint(args.out / "best")
    assert found.spec.backbone.views == ("front",)
    assert found.spec.backbone.name == backbone_at().name
    assert str(backbone_at()) not in found.spec.model_dump_json()
    assert found.spec.backbone.sha256 == before
    assert found.spec.backbone.model_type == "qwen2_5_vl"
    assert found.spec.backbone.dtype == "fp32"  # as --precision says
    assert set(found.model) == set(start)  # nothing of the backbone's own
    log = (args.out / "log.txt").read_text()
    assert "frozen" in log
    assert "views in order: front" in log


def test_views_are_recorded_in_the_order_of_the_dataset(make_args, make_dataset, backbone_at, tmp_path):
    data = make_dataset(tmp_path / "two", [4, 4], size=32, cameras=("wrist", "above"))
    trainer = Trainer(make_args(dataset_dir=(data,), backbone=str(backbone_at("llava"))))
    assert trainer.spec.backbone.views == ("wrist", "above")


def test_adapters_learn_and_are_averaged_while_the_backbone_stays(args, backbone_at):
    args = dataclasses.replace(
        args, lora_rank=2, gradient_checkpointing=True, lora_targets=("q_proj", "v_proj")
    )
    sha = find_backbone(str(backbone_at()), download=False).sha256()
    trainer = Trainer(args)
    start = weights(trainer)
    trainer.run()
    end, averaged = trainer.network.state_dict(), trainer.ema.module.state_dict()
    adapters = [name for name in start if ".lora." in name]
    assert len(adapters) == 8
    for name in adapters:
        assert not torch.equal(end[name], start[name])
        assert not torch.equal(end[name], averaged[name])
    assert find_backbone(str(backbone_at()), download=False).sha256() == sha
    assert "LoRA of rank 2" in (args.out / "log.txt").read_text()
    rebuilt = load_checkpoint(args.out / "last").build("ema")
    for name in adapters:
        torch.testing.assert_close(rebuilt.state_dict()[name], averaged[name], atol=0, rtol=0)


def test_a_checkpoint_finds_the_backbone_where_it_lay_and_its_contract_does_not_say(
    args, backbone_at, monkeypatch
):
    Trainer(args).run()
    monkeypatch.setattr(backbone_files, "_SEEN", {})  # as in another process
    found = load_checkpoint(args.out / "last")
    assert find_recorded(found.spec.backbone).directory == backbone_at()


class Killed(Exception):
    pass


def test_a_killed_run_with_adapters_resumes_to_the_same_bits(args, tmp_path, monkeypatch):
    args = dataclasses.replace(args, lora_rank=2, name="x")
    whole = Trainer(dataclasses.replace(args, out=tmp_path / "whole"))
    whole.run()
    right = train.save_checkpoint

    def dies(*given):
        right(*given)
        raise Killed

    monkeypatch.setattr(train, "save_checkpoint", dies)
    with pytest.raises(Killed):
        Trainer(args).run()
    monkeypatch.setattr(train, "save_checkpoint", right)
    resumed = Trainer(dataclasses.replace(args, resume=True))
    assert resumed.progress.batches == 1
    resumed.run()
    for name, tensor in whole.network.state_dict().items():
        torch.testing.assert_close(resumed.network.state_dict()[name], tensor, atol=0, rtol=0)


def test_a_run_whose_backbone_was_renamed_can_be_resumed(args, tmp_path):
    args = dataclasses.replace(args, backbone=str(write_backbone(tmp_path / "model", seed=2)))
    Trainer(args).run()
    now = (tmp_path / "model").rename(tmp_path / "renamed")
    Trainer(dataclasses.replace(args, backbone=str(now), resume=True, epochs=2)).run()
    found = load_checkpoint(args.out / "last")
    assert found.spec.backbone.name == "model"
    assert found.state["backbone_directory"] == str(now)
    assert find_recorded(found.spec.backbone).directory == now


def test_fine_tuning_starts_from_weights_of_the_same_backbone_only(args, make_args, backbone_at, tmp_path):
    Trainer(args).run()
    tuned = Trainer(dataclasses.replace(args, out=tmp_path / "tuned", init_from=args.out / "best"))
    assert tuned.spec.backbone is not None
    other = write_backbone(tmp_path / "other", seed=1)
    for changes in ({"backbone": str(other)}, {"backbone": None}, {"lora_rank": 2}):
        with pytest.raises(UsageError, match=r"--init-from .* its backbone is"):
            Trainer(dataclasses.replace(args, out=tmp_path / "wrong", init_from=args.out / "best", **changes))


def test_fine_tuning_does_not_scale_adapters_anew(args, tmp_path):
    args = dataclasses.replace(args, lora_rank=2, lora_alpha=4)
    Trainer(args).run()
    Trainer(dataclasses.replace(args, out=tmp_path / "tuned", init_from=args.out / "best"))
    other = dataclasses.replace(args, out=tmp_path / "wrong", init_from=args.out / "best", lora_alpha=16)
    with pytest.raises(UsageError, match=r"LoRA 2 with alpha 4 of .* this run's .* with alpha 16"):
        Trainer(other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lora_rank": 4}, "--lora-rank is for a backbone"),
        ({"backbone_revision": "main"}, "--backbone-revision is for a backbone"),
        ({"backbone_dtype": "bf16"}, "--backbone-dtype is for a backbone"),
        ({"backbone": "x", "gradient_checkpointing": True}, "add --lora-rank"),
        ({"backbone": "x", "lora_rank": 2, "lora_targets": ()}, "--lora-targets names no layers"),
        ({"backbone": "x", "lora_rank": -1}, "--lora-rank must be 0 or more"),
    ],
)
def test_flags_that_cannot_work_are_refused(make_args, changes, message):
    with pytest.raises(UsageError, match=message):
        check_flags(make_args(**changes))


def test_a_backbone_that_is_not_there_is_one_line_and_exit_code_2(dataset, tmp_path, capsys):
    flags = [
        "--dataset-dir",
        str(dataset),
        "--out",
        str(tmp_path / "run"),
        "--horizon",
        "8",
        "--max-prefix",
        "4",
    ]
    assert tinyvla.main(["train", *flags, "--backbone", str(tmp_path / "nowhere")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "no such directory" in error
