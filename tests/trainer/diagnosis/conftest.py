"""A sound dataset, a run on it that has learnt to look, and settings small enough for a test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from policy.spec import PolicySpec
from tests.trainer.dots import write_dots
from trainer.checkpoint import load_checkpoint, save_checkpoint
from trainer.diagnosis import subject as subject_module
from trainer.settings import TrainArgs
from trainer.train import Trainer

SETTINGS: dict[str, Any] = {
    "batch_size": 16, "lr": 3e-3, "patience": 0, "horizon": 8, "max_prefix": 4, "draws": 2, "hidden_dim": 24,
    "layers": 1, "val_split": 0.2, "precision": "fp32", "device": "cpu", "threads": 1, "save_every": 0, "shift": 0,
    "ema_decay": 0.9,
}  # fmt: skip


@pytest.fixture(scope="session")
def dots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound dataset; not to be changed by a test."""
    return write_dots(tmp_path_factory.mktemp("dots") / "dots")


@pytest.fixture
def settings_of_a_dataset(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Choose what a dataset would be trained with."""

    def choose(**changes: Any) -> None:
        chosen = {**SETTINGS, **changes}
        monkeypatch.setattr(
            subject_module, "fresh_settings", lambda places: TrainArgs(dataset_dir=places, **chosen)
        )

    return choose


@pytest.fixture(autouse=True)
def small(
    settings_of_a_dataset: Callable[..., None], small_vision: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Networks and settings of a test, and tables that are not folded."""
    settings_of_a_dataset()
    monkeypatch.setenv("COLUMNS", "160")
    torch.set_num_threads(1)


def train_run(dataset: Path, out: Path, **changes: Any) -> Path:
    """Train for a second or two; returns the run directory."""
    fields = {**SETTINGS, "dataset_dir": (dataset,), "out": out, "epochs": 12, **changes}
    Trainer(TrainArgs(**fields)).run()
    return out


@pytest.fixture
def train() -> Callable[..., Path]:
    return train_run


@pytest.fixture(scope="session")
def sound_run(dots: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """A run that has learnt to look; made once, by the first test that asks, when networks are already small."""
    made: list[Path] = []

    def get() -> Path:
        if not made:
            made.append(train_run(dots, tmp_path_factory.mktemp("sound") / "run"))
        return made[0]

    return get


@pytest.fixture
def altered(sound_run: Callable[[], Path], tmp_path: Path) -> Callable[..., Path]:
    """The sound run's best checkpoint with another contract or other averaged weights."""

    def make(
        spec: Callable[[PolicySpec], PolicySpec] = lambda spec: spec,
        weights: Callable[[Any], None] = lambda network: None,
    ) -> Path:
        found = load_checkpoint(sound_run() / "best")
        network = found.build("ema")
        with torch.no_grad():
            weights(network)
        optimizer = torch.optim.AdamW(network.parameters())
        save_checkpoint(
            tmp_path / "altered", found.build("model"), network, optimizer, spec(found.spec), found.state
        )
        return tmp_path / "altered"

    return make
