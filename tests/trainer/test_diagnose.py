"""Every planted fault is found by the diagnosis that is made for it, and what is sound is called sound."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import tinyvla
from clients.lerobot_v3 import EpisodeArrays
from policy.networks import network as network_module
from policy.networks.encoder import ObservationEncoder
from policy.networks.network import PolicyNetwork
from policy.spec import PolicySpec, RangeStats
from tests.trainer.dots import SIZE, encoded, write_dots
from trainer import train as train_module
from trainer import training_data
from trainer.checkpoint import load_checkpoint, save_checkpoint
from trainer.diagnose import run
from trainer.diagnosis import subject as subject_module
from trainer.diagnosis.action_statistics import statistics_faults
from trainer.diagnosis.findings import Diagnosis
from trainer.diagnosis.memory import MemoryArgs, card_megabytes
from trainer.diagnosis.subject import SubjectArgs
from trainer.settings import TrainArgs
from trainer.train import Trainer

pytestmark = pytest.mark.usefixtures("small_vision")

SETTINGS = {
    "batch_size": 16, "lr": 3e-3, "patience": 0, "horizon": 8, "max_prefix": 4, "draws": 2, "hidden_dim": 24,
    "layers": 1, "val_split": 0.2, "precision": "fp32", "device": "cpu", "threads": 1, "save_every": 0, "shift": 0,
    "ema_decay": 0.9,
}  # fmt: skip


@pytest.fixture(scope="session")
def dots(tmp_path_factory) -> Path:
    """A sound dataset; not to be changed by a test."""
    return write_dots(tmp_path_factory.mktemp("dots") / "dots")


@pytest.fixture(autouse=True)
def small_settings(monkeypatch):
    """What a dataset would be trained with, made small enough for a test."""
    settings_of_a_dataset(monkeypatch)
    torch.set_num_threads(1)


def settings_of_a_dataset(monkeypatch, **changes) -> None:
    chosen = {**SETTINGS, **changes}
    monkeypatch.setattr(
        subject_module, "fresh_settings", lambda places: TrainArgs(dataset_dir=places, **chosen)
    )


def train(dataset: Path, out: Path, **changes) -> Path:
    Trainer(TrainArgs(**{**SETTINGS, "dataset_dir": (dataset,), "out": out, "epochs": 12, **changes})).run()
    return out


@pytest.fixture(scope="session")
def sound_run(dots, tmp_path_factory):
    """A run of a few seconds that has learnt to look; made once, by the first test that asks."""
    made: list[Path] = []

    def get() -> Path:
        if not made:
            made.append(train(dots, tmp_path_factory.mktemp("sound") / "run"))
        return made[0]

    return get


def diagnosed(what: str, path: Path, **given) -> Diagnosis:
    return run(what, SubjectArgs(path, **{"samples": 96, "device": "cpu", **given}))


def altered(run_directory: Path, place: Path, change) -> Path:
    """A copy of a run's best checkpoint with another contract."""
    found = load_checkpoint(run_directory / "best")
    network = found.build("model")
    optimizer = torch.optim.AdamW(network.parameters())
    save_checkpoint(place, network, found.build("ema"), optimizer, change(found.spec), found.state)
    return place


# ---- what is sound


@pytest.mark.slow
@pytest.mark.parametrize("what", ["loss-explosion", "loss-values", "head", "mse", "schedule", "data"])
def test_a_sound_run_has_no_fault(sound_run, what):
    found = diagnosed(what, sound_run())
    assert found.faults == ()
    assert found.measured or found.notes


@pytest.mark.parametrize("what", ["loss-explosion", "loss-values", "head", "mse", "schedule", "data"])
def test_a_sound_dataset_has_no_fault(dots, what):
    assert diagnosed(what, dots).faults == ()


def test_a_regression_run_can_be_diagnosed_too(dots, tmp_path):
    directory = train(dots, tmp_path / "run", head="regression", epochs=1)
    for what in ("loss-values", "head", "mse", "schedule"):
        assert "worse-than-nothing" not in diagnosed(what, directory).codes


# ---- loss-explosion


def test_torchs_default_initialisation_is_found(dots, monkeypatch):
    monkeypatch.setattr(network_module, "initialize", lambda module: None)
    found = diagnosed("loss-explosion", dots)
    assert "loud-initialisation" in found.codes
    assert "zero_init" in next(fault.remedy for fault in found.faults if fault.code == "loud-initialisation")


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "codes"), [(1e-3, ("learning-rate",)), (1e-4, ())])
def test_a_learning_rate_that_a_wide_network_does_not_survive_is_found(dots, monkeypatch, rate, codes):
    """At 768 channels and one sample a batch, 1e-3 sends the loss to eight times where it began; 1e-4 does not."""
    settings_of_a_dataset(monkeypatch, hidden_dim=768, horizon=16, draws=1)
    monkeypatch.setattr("trainer.diagnosis.loss_explosion._LADDER", (0.1, 1.0))
    found = diagnosed("loss-explosion", dots, lr=rate, batch_size=1, samples=8)
    assert found.codes == codes


def test_a_log_that_rises_is_found(sound_run, tmp_path):
    shutil.copytree(sound_run(), tmp_path / "run")
    log = tmp_path / "run" / "epochs.jsonl"
    last = json.loads(log.read_text().splitlines()[-1])
    log.write_text(log.read_text() + json.dumps({**last, "epoch": last["epoch"] + 1, "loss": 9.0}) + "\n")
    assert "loss-rose" in diagnosed("loss-explosion", tmp_path / "run").codes


# ---- loss-values


def test_a_clipped_loss_is_found(dots, tmp_path, monkeypatch):
    right = train_module.compute_losses

    def clipped(*args):
        found = right(*args)
        return dataclasses.replace(found, action=found.action.clamp(max=0.01))

    monkeypatch.setattr(train_module, "compute_losses", clipped)
    directory = train(dots, tmp_path / "run", epochs=2)
    found = diagnosed("loss-values", directory)
    assert "clipped-loss" in found.codes


def test_a_loss_above_that_of_saying_nothing_is_found(sound_run, tmp_path):
    found = load_checkpoint(sound_run() / "best")
    network = found.build("ema")
    with torch.no_grad():
        network.trunk.out.bias.add_(3.0)
    optimizer = torch.optim.AdamW(network.parameters())
    save_checkpoint(tmp_path / "loud", network, network, optimizer, found.spec, found.state)
    told = diagnosed("loss-values", tmp_path / "loud")
    assert "worse-than-nothing" in told.codes
    assert any("σ² + 1" in note for note in told.notes)


# ---- head


def test_a_network_that_never_gets_the_image_is_found(dots, monkeypatch):
    right = ObservationEncoder.see
    monkeypatch.setattr(
        ObservationEncoder, "see", lambda self, images, tokens: right(self, torch.zeros_like(images), tokens)
    )
    assert "images-cut-off" in diagnosed("head", dots).codes


def test_a_block_that_no_gradient_reaches_is_found(dots, monkeypatch):
    right = ObservationEncoder.see
    monkeypatch.setattr(ObservationEncoder, "see", lambda self, *inputs: right(self, *inputs).detach())
    found = diagnosed("head", dots)
    assert "dead-block" in found.codes
    assert "encoder.vision" in next(fault.what for fault in found.faults if fault.code == "dead-block")


@pytest.mark.slow
def test_an_image_that_is_never_attended_to_is_found(tmp_path):
    """The images show noise: on episodes that it was not trained on, they are of no use to the policy."""
    dataset = write_dots(tmp_path / "noise", change=noise)
    directory = train(dataset, tmp_path / "run", epochs=2)
    found = diagnosed("head", directory)
    assert "image-never-attended-to" in found.codes


# ---- mse


def test_an_action_of_which_nothing_is_explained_is_found(sound_run, tmp_path):
    # A mirrored axis in the weights, not in the statistics: the network's first output with its sign turned.
    found = load_checkpoint(sound_run() / "best")
    network = found.build("ema")
    with torch.no_grad():
        weight, bias = network.trunk.out.weight, network.trunk.out.bias
        weight[0::2].mul_(-1)
        bias[0::2].mul_(-1)
    optimizer = torch.optim.AdamW(network.parameters())
    save_checkpoint(tmp_path / "mirrored", network, network, optimizer, found.spec, found.state)
    told = diagnosed("mse", tmp_path / "mirrored")
    assert "worse-than-the-mean" in told.codes
    assert "dx" in told.faults[0].what
    assert "dy" not in told.faults[0].what


# ---- schedule


def with_action_stats(minimum: np.ndarray, maximum: np.ndarray):
    stats = RangeStats(minimum=tuple(map(float, minimum)), maximum=tuple(map(float, maximum)))

    def change(spec: PolicySpec) -> PolicySpec:
        normalization = spec.normalization.model_copy(update={"action": stats})
        return spec.model_copy(update={"normalization": normalization})

    return change


@pytest.mark.parametrize("what", ["schedule", "data"])
def test_z_scored_actions_under_a_clip_at_1_are_found(sound_run, tmp_path, what):
    directory = sound_run()
    actions = np.concatenate([c.actions for c in training_data_of(directory).caches])
    mean, std = actions.mean(0), actions.std(0)
    place = altered(directory, tmp_path / "zscored", with_action_stats(mean - std, mean + std))
    found = diagnosed(what, place)
    assert "cut-by-the-sampler" in found.codes
    assert "z-scored" in found.faults[0].cause


@pytest.mark.parametrize("what", ["schedule", "data"])
def test_actions_that_are_not_normalised_are_found(tmp_path, sound_run, what):
    """The contract leaves them as they are, and they come in millimetres."""
    dataset = write_dots(tmp_path / "millimetres", scale=5000.0)
    place = altered(sound_run(), tmp_path / "raw", with_action_stats(-np.ones(2), np.ones(2)))
    assert "not-normalised" in diagnosed(what, place, dataset_dir=(dataset,)).codes


def training_data_of(directory: Path) -> training_data.TrainingData:
    args = load_checkpoint(directory / "best").state["arguments"]
    return training_data.open_training_data([Path(p) for p in args["dataset_dir"]], 8, 0, 0.2, 0)


# ---- data


def elsewhere(episodes: list[EpisodeArrays]) -> list[EpisodeArrays]:
    """Every episode's images are another's."""
    return [
        dataclasses.replace(one, images=other.images)
        for one, other in zip(episodes, episodes[1:] + episodes[:1], strict=True)
    ]


def noise(episodes: list[EpisodeArrays]) -> list[EpisodeArrays]:
    """Cameras that show nothing."""
    rng = np.random.default_rng(4)
    shape = (SIZE, SIZE, 3)
    return [
        dataclasses.replace(
            one,
            images={
                "front": [encoded(rng.integers(0, 256, shape, dtype=np.uint8)) for _ in one.images["front"]]
            },
        )
        for one in episodes
    ]


def doubled(episodes: list[EpisodeArrays]) -> list[EpisodeArrays]:
    """Four-dimensional states and actions."""
    return [
        dataclasses.replace(
            one,
            state=np.tile(one.state, 2),
            action=np.tile(one.action.reshape(len(one.action), -1, 2), 2).reshape(len(one.action), -1),
        )
        for one in episodes
    ]


def shuffled(episodes: list[EpisodeArrays]) -> list[EpisodeArrays]:
    """Images in random order."""
    rng = np.random.default_rng(3)
    changed = []
    for one in episodes:
        order = rng.permutation(len(one.images["front"]))
        changed.append(dataclasses.replace(one, images={"front": [one.images["front"][i] for i in order]}))
    return changed


def sorted_as_text(episodes: list[EpisodeArrays]) -> list[EpisodeArrays]:
    """The images of frames 0, 1, 10, 11, ... beside the actions of frames 0, 1, 2, 3, ..."""
    changed = []
    for one in episodes:
        frames = one.images["front"]
        order = sorted(range(len(frames)), key=str)
        changed.append(dataclasses.replace(one, images={"front": [frames[i] for i in order]}))
    return changed


def one_constant_action(episodes: list[EpisodeArrays]) -> list[EpisodeArrays]:
    changed = []
    for one in episodes:
        action = one.action.copy()
        action[:, 1::2] = 0.125
        changed.append(dataclasses.replace(one, action=action))
    return changed


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (elsewhere, "shuffled-pairs"),
        (shuffled, "shuffled-pairs"),
        (shuffled, "frames-out-of-order"),
        (sorted_as_text, "frames-sorted-as-text"),
        (one_constant_action, "constant-action"),
    ],
)
def test_a_fault_of_the_recording_is_found(tmp_path, change, code):
    assert code in diagnosed("data", write_dots(tmp_path / "data", change=change)).codes


def swapped(episodes: list[EpisodeArrays]) -> list[EpisodeArrays]:
    """Blue, green and red."""

    def turn(data: bytes) -> bytes:
        return encoded(np.asarray(Image.open(io.BytesIO(data)))[..., ::-1].copy())

    return [
        dataclasses.replace(one, images={"front": [turn(data) for data in one.images["front"]]})
        for one in episodes
    ]


def test_colours_that_are_not_those_the_recorder_counted_are_found(tmp_path):
    dataset = write_dots(tmp_path / "data")
    path = dataset / "meta" / "stats.json"
    stats = json.loads(path.read_text())
    stats["observation.images.front"][
        "mean"
    ].reverse()  # as if the images had been turned after they were counted
    path.write_text(json.dumps(stats))
    found = diagnosed("data", dataset)
    assert found.codes == ("swapped-colours",)
    assert "front's mean colours are those in meta/stats.json in reverse" in found.faults[0].what


def test_a_dataset_whose_colours_are_anothers_in_reverse_is_found(tmp_path, dots):
    other = write_dots(tmp_path / "swapped", seed=5, change=swapped)
    assert "swapped-colours" in diagnosed("data", dots, dataset_dir=(other,)).codes


def test_a_metaworld_scene_that_is_blue_is_found(tmp_path):
    names = ("a", "b", "c", "d")
    dataset = write_dots(
        tmp_path / "data", change=doubled, robot_type="metaworld", state_names=names, action_names=names
    )
    found = diagnosed("data", dataset)
    assert "swapped-colours" in found.codes
    assert "bluer than red" in found.faults[-1].what


@pytest.mark.slow
def test_a_policy_that_is_shown_blue_for_red_is_found(tmp_path, sound_run):
    other = write_dots(tmp_path / "swapped", seed=0, change=swapped)
    found = diagnosed("data", sound_run(), dataset_dir=(other,))
    assert found.codes == ("swapped-colours",)
    assert "with red and blue exchanged" in found.faults[0].what


def test_validation_windows_of_episodes_that_are_trained_on_are_found(dots, monkeypatch):
    def by_windows(episodes: int, share: float, seed: int):
        return np.arange(episodes), np.arange(0, episodes, 3)

    monkeypatch.setattr(training_data, "split_episodes", by_windows)
    found = diagnosed("data", dots)
    assert found.codes == ("leaked-validation",)
    assert "(100 %)" in found.faults[0].what


def test_a_copy_of_an_episode_in_another_dataset_is_a_leak(dots, tmp_path):
    copies = write_dots(tmp_path / "copies", change=lambda episodes: episodes[3:])
    assert "leaked-validation" in diagnosed("data", dots, dataset_dir=(copies,)).codes


def test_values_that_are_not_finite_are_found(dots):
    """Our recorder refuses them; others do not."""
    subject = subject_module.open_subject(SubjectArgs(dots, device="cpu"))
    state = subject.data.caches[0].state.copy()
    state[7, 1] = np.nan
    caches = (dataclasses.replace(subject.data.caches[0], state=state),)
    subject = dataclasses.replace(subject, data=dataclasses.replace(subject.data, caches=caches))
    assert [fault.code for fault in statistics_faults(subject)] == ["not-finite"]


# ---- memory


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_predicted_memory_is_within_a_tenth_of_what_is_measured(dots, monkeypatch, precision):
    settings_of_a_dataset(monkeypatch, precision=precision, hidden_dim=96, layers=2)
    given = MemoryArgs(dots, device="cpu", batch_sizes=(32,), card=(), measure=True)
    found = run("memory", given)
    assert found.faults == ()
    measured = next(table for table in found.measured if table.title.startswith("measured"))
    assert [row[0] for row in measured.rows] == ["16", "32"]
    assert all(abs(float(row[3].split()[0])) <= 10 for row in measured.rows)


def test_memory_counts_weights_gradients_and_two_moments(dots):
    found = run("memory", MemoryArgs(dots, device="cpu", batch_sizes=(), card=()))
    subject = subject_module.open_subject(SubjectArgs(dots, device="cpu"))
    weights = sum(p.numel() for p in PolicyNetwork(subject.spec, subject.config).parameters()) * 4 / 1e6
    row = found.measured[0].rows[0]
    assert [float(cell) for cell in row[1:5]] == pytest.approx(
        [weights, weights, weights, 2 * weights], abs=0.06
    )


def test_a_batch_that_does_not_fit_the_card_is_a_fault(dots):
    given = MemoryArgs(dots, device="cpu", batch_size=4096, batch_sizes=(), card=("0.7",))
    found = run("memory", given)
    assert found.codes == ("does-not-fit",)
    fits = next(table for table in found.measured if "card" in table.title).rows[0]
    assert 0 < int(fits[2].replace(",", "")) < 4096


def test_cards_go_by_name_or_gigabytes():
    assert card_megabytes("rtx4090") == card_megabytes("24 GB") == card_megabytes("RTX 4090")
    for wrong in ("RTX 9999", "-4", "nan"):
        with pytest.raises(Exception, match=f"--card {wrong}"):
            card_megabytes(wrong)


# ---- as a person calls it


def test_the_exit_code_tells_whether_there_is_a_fault(dots, tmp_path, capsys):
    assert tinyvla.main(["diagnose", "data", str(dots), "--device", "cpu"]) == 0
    assert "no fault found" in capsys.readouterr().out
    wrong = write_dots(tmp_path / "data", change=one_constant_action)
    assert tinyvla.main(["diagnose", "data", str(wrong), "--device", "cpu"]) == 1
    told = capsys.readouterr().out
    for word in ("verdict: constant-action", "likely cause:", "remedy:"):
        assert word in told


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["data", "/nowhere"], "/nowhere is no run, no checkpoint and no dataset"),
        (["colour", "/nowhere"], "no subcommand 'colour'; there are: loss-explosion"),
    ],
)
def test_a_wrong_call_is_one_line(flags, message, capsys):
    assert tinyvla.main(["diagnose", *flags]) == 2
    line = capsys.readouterr().err.strip()
    assert message in line
    assert "\n" not in line


def test_data_that_have_moved_are_asked_for(sound_run, tmp_path):
    place = altered(sound_run(), tmp_path / "moved", lambda spec: spec)
    path = place / "state.json"
    document = json.loads(path.read_text())
    document["arguments"]["dataset_dir"] = ["/gone"]
    path.write_text(json.dumps(document))
    (place / "SHA256SUMS").unlink()
    with pytest.raises(Exception, match=r"are not at /gone; say where with --dataset-dir"):
        diagnosed("data", place)
