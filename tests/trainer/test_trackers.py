"""Trackers: what a run tells them, under which names, and that a resumed run goes on in the same place."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import wandb
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.proto import wandb_internal_pb2

from policy.errors import UsageError
from policy.null import null_spec
from policy.spec import SensorSpec
from trainer import step_log
from trainer.losses import Losses
from trainer.step_log import StepLog, loss_by_timestep
from trainer.trackers import WeightsAndBiases, project_of, run_name_of
from trainer.train import Trainer

pytestmark = pytest.mark.usefixtures("small_vision")

TOLD = {
    "loss/train", "loss/validation", "learning_rate", "memory_mb", "samples_per_second", "step/loss",
    "step/gradient_norm", "step/learning_rate", "step/samples_per_second", "gradient_norm/trunk.blocks.0",
    "gradient_norm/encoder.vision.stages.0", "gradient_norm/encoder.state",
}  # fmt: skip


def scalars(run: Path) -> dict[str, list[tuple[int, float]]]:
    """Name -> (step, value) as TensorBoard reads them."""
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    return {
        name: [(one.step, one.value) for one in events.Scalars(name)] for name in events.Tags()["scalars"]
    }


def records(path: Path) -> Iterator[wandb_internal_pb2.Record]:
    """An offline run's file: a header of 7 bytes, then LevelDB's log of protocol buffers in blocks of 32 KiB."""
    data, at, parts = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if (room := 32768 - at % 32768) < 7:
            at += room
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield wandb_internal_pb2.Record.FromString(parts)
            parts = b""


def offline_run(run: Path) -> tuple[list[wandb_internal_pb2.RunRecord], list[dict[str, object]]]:
    """How the run introduced itself, each time it was started, and every row that it logged."""
    starts, rows = [], []
    for path in sorted(run.glob("wandb/offline-run-*/*.wandb")):
        found = list(records(path))
        starts += [one.run for one in found if one.WhichOneof("record_type") == "run"][:1]
        rows += [
            {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in one.history.item}
            for one in found if one.WhichOneof("record_type") == "history"
        ]  # fmt: skip
    return starts, rows


def test_tensorboard_is_told_of_losses_gradients_speed_memory_and_shown_chunks(make_args, tmp_path):
    trainer = Trainer(make_args(epochs=2, log_every=2, pictures_every=1, max_grad_norm=1e-6))
    trainer.run()
    found = scalars(tmp_path / "run")
    assert found.keys() >= TOLD
    assert {name for name in found if name.startswith("loss_by_timestep/")} <= {
        f"loss_by_timestep/{first:02d}-{first + 9:02d}" for first in range(0, 100, 10)
    }
    # Steps 1, 3 and 5 of each epoch of five: every second one, and the last.
    assert [step for step, _ in found["step/loss"]] == [1, 3, 5, 7, 9, 10]
    assert all(value > 1e-3 for _, value in found["step/gradient_norm"])  # before it is clipped
    blocks = [values for name, values in found.items() if name.startswith("gradient_norm/")]
    total = sum(values[-1][1] ** 2 for values in blocks) ** 0.5
    assert found["step/gradient_norm"][-1][1] == pytest.approx(total, rel=1e-5)
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    pictures = events.Images("chunks")
    assert [picture.step for picture in pictures] == [5, 10]
    assert pictures[0].encoded_image_string.startswith(b"\x89PNG")


def test_a_regression_has_no_timesteps_to_tell_of(make_args, tmp_path):
    Trainer(make_args(epochs=1, head="regression")).run()
    found = scalars(tmp_path / "run")
    assert "step/loss" in found
    assert not any(name.startswith("loss_by_timestep/") for name in found)


def test_telling_more_often_changes_nothing_in_the_result(make_args, tmp_path):
    for name, every in (("seldom", 50), ("always", 1)):
        Trainer(make_args(out=tmp_path / name, epochs=1, log_every=every, pictures_every=every)).run()
    one, other = (
        (tmp_path / name / "last" / "model.safetensors").read_bytes() for name in ("seldom", "always")
    )
    assert one == other


@pytest.mark.slow
def test_weights_and_biases_gets_the_same_and_a_resumed_run_goes_on_there(make_args, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    Trainer(make_args(epochs=1, wandb=True, pictures_every=1)).run()
    Trainer(make_args(epochs=2, wandb=True, pictures_every=1, resume=True)).run()
    deadline = time.monotonic() + 60
    while len((found := offline_run(tmp_path / "run"))[0]) < 2 and time.monotonic() < deadline:
        time.sleep(0.2)  # a process of its own writes the files
    (first, second), rows = found
    assert first.project == "TinyVLA-Diffusion"
    assert re.fullmatch(r"train_diffusion_\d{4}_\d{4}", first.display_name)
    assert first.run_id == second.run_id
    config = {item.key: json.loads(item.value_json) for item in first.config.update}
    assert (config["lr"], config["head"], config["horizon"]) == (1e-3, "diffusion", 8)
    assert {key for row in rows for key in row} >= TOLD
    epochs = [row["optimizer_step"] for row in rows if "loss/validation" in row]
    assert epochs == [5, 10]
    assert len([row for row in rows if "chunks._type" in row or "chunks" in row]) == 2
    assert len(list((tmp_path / "run" / "wandb").rglob("chunks*.png"))) == 2


def test_weights_and_biases_without_a_login_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    wandb.teardown()  # it reads its settings once a process
    with pytest.raises(UsageError, match=r"^--wandb: .*`wandb login`") as caught:
        WeightsAndBiases(tmp_path, null_spec(), {})
    wandb.teardown()
    assert "\n" not in str(caught.value)


def test_projects_and_runs_are_named_by_head_and_sensor():
    plain = null_spec()
    sensor = SensorSpec(name="force", channels=1, window=4, rate_hz=100.0, units="N")
    felt = plain.model_copy(update={"sensors": (sensor,)})
    regression = plain.model_copy(update={"head": "regression", "sampler": None})
    then = time.strptime("2026-03-07 14:05", "%Y-%m-%d %H:%M")
    assert (project_of(felt), run_name_of(felt, then)) == (
        "TinyVLA-Diffusion", "train_diffusion_sensor_0307_1405",
    )  # fmt: skip
    assert (project_of(regression), run_name_of(regression, then)) == (
        "TinyVLA-Regression", "train_regression_0307_1405",
    )  # fmt: skip


def test_the_loss_is_told_by_groups_of_timesteps():
    timestep = torch.tensor([0, 9, 10, 55, 55, 99])
    by_draw = torch.tensor([1.0, 3.0, 5.0, 7.0, torch.nan, 9.0])
    assert loss_by_timestep(timestep, by_draw, 100) == {
        "00-09": 2.0,
        "10-19": 5.0,
        "50-59": 7.0,
        "90-99": 9.0,
    }
    assert loss_by_timestep(torch.tensor([0, 2]), torch.tensor([1.0, 2.0]), 3) == {"0-0": 1.0, "2-2": 2.0}


def test_what_is_done_between_epochs_does_not_count_as_slow_steps(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(step_log, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    log, network = StepLog(None), torch.nn.Linear(1, 1)

    def train(seconds: float) -> None:
        log.go_on()
        log.add(Losses(torch.ones(()), torch.zeros(()), torch.ones(1)), torch.zeros(1), samples=10)
        now[0] += seconds
        log.pause()

    def validate() -> None:
        now[0] += 100.0

    validate()
    train(2.0)
    assert log.entry(network)["step/samples_per_second"] == 5
    validate()
    train(3.0)
    validate()
    train(1.0)
    assert log.entry(network)["step/samples_per_second"] == 5
