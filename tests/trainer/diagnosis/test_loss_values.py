"""A loss that was clipped and one worse than saying nothing are found; what a loss means is said."""

from __future__ import annotations

import dataclasses
import json
import shutil

from tests.trainer.diagnosis.told import diagnosed
from trainer import train as train_module


def test_a_clipped_loss_is_found(dots, tmp_path, monkeypatch, train):
    right = train_module.compute_losses

    def clipped(*args):
        found = right(*args)
        return dataclasses.replace(found, action=found.action.clamp(max=0.01))

    monkeypatch.setattr(train_module, "compute_losses", clipped)
    told = diagnosed("loss-values", train(dots, tmp_path / "run", epochs=2))
    assert "--max-grad-norm" in told.of("clipped-loss")


def test_a_checkpoint_is_judged_by_the_log_of_its_own_epoch(sound_run, tmp_path):
    """The losses of later epochs are of other weights."""
    shutil.copytree(sound_run(), tmp_path / "run")
    log = tmp_path / "run" / "epochs.jsonl"
    first, *later = map(json.loads, log.read_text().splitlines())
    lines = [first, *({**line, "loss": line["loss"] / 50 + 1e-3} for line in later)]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    state = tmp_path / "run" / "best" / "state.json"
    document = json.loads(state.read_text())
    document["progress"]["validation"] = document["progress"]["validation"][:1]
    state.write_text(json.dumps(document))
    (state.parent / "SHA256SUMS").unlink()
    assert diagnosed("loss-values", tmp_path / "run").codes == ()
    log.write_text(json.dumps({**first, "loss": 1.1e-3}) + "\n")
    assert "epoch 1 logged a loss of 0.0011" in diagnosed("loss-values", tmp_path / "run").of("clipped-loss")


def test_a_loss_above_that_of_saying_nothing_is_found(altered):
    told = diagnosed("loss-values", altered(weights=lambda network: network.trunk.out.bias.add_(3.0)))
    assert told.codes == ("worse-than-nothing",)
    assert "of the target's (σ² + 1, in its units)" in told.text


def test_statistics_timesteps_and_the_table_of_spreads_are_printed(sound_run):
    told = diagnosed("loss-values", sound_run())
    for word in (
        "input",
        "predicted",
        "target",
        "by timestep",
        "loss σ² + 1",
        "1.4e+03",
        "as the run logged it",
    ):
        assert word in told.text
