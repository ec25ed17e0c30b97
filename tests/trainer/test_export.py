"""`tinyvla export`: from a checkpoint to a bundle that does what the checkpoint does, and tells where it is from."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import tinyvla
from policy.bundle import load_bundle
from policy.loaded import LoadedPolicy
from policy.observation import Observation, SampleOptions
from policy.runtimes.eager import EagerBackend
from trainer import train
from trainer.checkpoint import load_checkpoint
from trainer.train import Trainer


@pytest.fixture
def run(small_vision, make_args, monkeypatch):
    """A finished run of one epoch, of a version of the code that is not the one exporting it."""
    monkeypatch.setattr(train, "code_version", lambda: "0123456789ab")
    args = make_args(epochs=1, name="numbers", lr=1e-2)
    Trainer(args).run()
    return args.out


@pytest.mark.slow
def test_a_trained_policy_behaves_the_same_as_a_bundle(run, tmp_path, capsys, make_args):
    """Nothing is lost between training and serving but the last bits of 16-bit weights."""
    out = tmp_path / "bundle"
    assert tinyvla.main(["export", "--checkpoint", str(run / "best"), "--out", str(out)]) == 0
    assert "numbers@" in capsys.readouterr().out
    served = load_bundle(out)
    found = load_checkpoint(run / "best")
    trained = LoadedPolicy(found.spec, EagerBackend(found.build("ema"), "cpu"))
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    observation = Observation({"front": image}, np.float32([0.1, 0.5]), "do task 1")
    options = [SampleOptions(seed=3)]
    one, other = (policy.predict([observation], options)[0].actions for policy in (trained, served))
    half = (np.asarray(found.spec.action.high) - np.asarray(found.spec.action.low)) / 2
    assert np.max(np.abs(one - other) / half) < 0.02

    spec = served.spec
    assert spec.normalization == found.spec.normalization
    assert spec.training["seed"] == 0
    assert spec.training["optimizer_steps"] == 5
    assert spec.training["weights"] == "ema"
    assert spec.training["processes"] == 1
    assert list(spec.training["data_sha256"]) == ["numbers"]
    assert spec.training["auxiliary_targets"] == ["goal_x", "goal_y", "goal_z"]
    assert spec.training["arguments"]["batch_size"] == 8
    assert spec.training["arguments"]["dataset_dir"] == ["numbers"]  # and not where it lay
    assert spec.training["code_version"] == "0123456789ab"

    # And training may go on from it, on the statistics its weights expect.
    tuned = Trainer(make_args(init_from=out, out=tmp_path / "tuned", seed=1, val_split=0.5))
    assert tuned.spec.normalization == spec.normalization
    for name, tensor in tuned.network.state_dict().items():
        if not name.startswith("encoder.auxiliary."):
            torch.testing.assert_close(tensor, found.ema[name].half().float(), atol=0, rtol=0)


@pytest.mark.slow
def test_the_temperature_of_sampling_is_chosen_at_export(run, tmp_path, capsys):
    out = tmp_path / "cold"
    flags = ["--checkpoint", str(run / "best"), "--out", str(out)]
    assert tinyvla.main(["export", *flags, "--temperature", "2"]) == 2
    assert "between 0 and 1" in capsys.readouterr().err
    image = np.zeros((32, 32, 3), np.uint8)
    observation = Observation({"front": image}, np.float32([0.1, 0.5]), "do task 1")
    for chosen, same in (([], True), (["--temperature", "1"], False)):
        assert tinyvla.main(["export", *flags, *chosen]) == 0
        drawn = load_bundle(out).predict([observation] * 2, [SampleOptions(seed=1), SampleOptions(seed=2)])
        assert np.array_equal(drawn[0].actions, drawn[1].actions) is same
        assert ("noise of standard deviation 0" in (out / "README.md").read_text()) is same


@pytest.mark.parametrize("checkpoint", ["nowhere", "damaged"])
def test_a_missing_or_damaged_checkpoint_is_one_line(run, tmp_path, capsys, checkpoint):
    (run / "best").rename(run / "damaged")
    (run / "damaged" / "model.safetensors").write_bytes(b"x")
    capsys.readouterr()
    flags = ["--checkpoint", str(run / checkpoint), "--out", str(tmp_path / "bundle")]
    assert tinyvla.main(["export", *flags]) == 2
    line = capsys.readouterr().err.strip()
    assert checkpoint in line
    assert "\n" not in line
    assert not (tmp_path / "bundle").exists()


def test_something_that_is_no_bundle_is_not_replaced(run, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    flags = ["--checkpoint", str(run / "best"), "--out", str(tmp_path / "out")]
    assert tinyvla.main(["export", *flags]) == 2
    assert "is no policy bundle" in capsys.readouterr().err
    assert (tmp_path / "out" / "thesis.txt").exists()
