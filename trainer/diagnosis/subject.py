"""What is diagnosed: a run, a checkpoint or a dataset, opened with the data and the network that go with it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro

from policy.errors import UsageError
from policy.networks.config import NetworkConfig
from policy.networks.network import PolicyNetwork
from policy.runtimes.torch_device import torch_device
from policy.spec import PolicySpec
from policy.text import text_encoder
from trainer.auxiliary import Auxiliary
from trainer.checkpoint import Checkpoint, find_checkpoint, load_checkpoint
from trainer.contract import check_same_senses, make_spec
from trainer.epoch_log import EPOCHS, read_epochs
from trainer.epoch_report import EpochReport
from trainer.network_choice import choose_network
from trainer.settings import ResolvedArgs, TrainArgs, check_flags, with_defaults, with_preset
from trainer.training_data import TrainingData, open_training_data


@dataclass(frozen=True)
class SubjectArgs:
    """A run, a checkpoint or a dataset."""

    path: tyro.conf.Positional[Path]
    """A run directory (its `best` checkpoint is judged), a checkpoint, or a dataset (with a fresh network)."""
    dataset_dir: tuple[Path, ...] = ()
    """Data to judge a run or checkpoint on; default what it was trained on."""
    lr: float | None = None
    """Learning rate; default the run's, for a dataset the preset's."""
    batch_size: int | None = None
    """Batch size; default the run's, for a dataset the preset's."""
    samples: int = 256
    """Samples that the network is judged on."""
    device: str = "auto"
    seed: int = 0


@dataclass(frozen=True)
class Subject:
    """Data, contract and network; the network is a fresh one where nothing was trained yet."""

    about: str
    args: ResolvedArgs
    spec: PolicySpec
    data_spec: PolicySpec  # the contract that this data would give
    data: TrainingData
    auxiliary: Auxiliary
    config: NetworkConfig
    checkpoint: Checkpoint | None  # None for a dataset
    epochs: tuple[EpochReport, ...]  # what the run told of itself
    device: torch.device
    given: SubjectArgs

    @property
    def samples(self) -> int:
        return self.given.samples

    @property
    def seed(self) -> int:
        return self.given.seed

    def fresh(self) -> PolicyNetwork:
        """A network as training starts with it."""
        torch.manual_seed(self.args.seed)
        return PolicyNetwork(self.spec, self.config).to(self.device)

    @property
    def own_epochs(self) -> tuple[EpochReport, ...]:
        """Those behind the weights that are judged; a run goes on after its best epoch and those that it keeps."""
        if self.checkpoint is None:
            return ()
        told = len(self.checkpoint.state["progress"]["validation"])
        return tuple(epoch for epoch in self.epochs if epoch.epoch < told)

    @functools.cached_property
    def network(self) -> PolicyNetwork:
        """The averaged weights, or a fresh network."""
        return self.fresh().eval() if self.checkpoint is None else self.checkpoint.build().to(self.device)


def _settings(stored: Mapping[str, Any]) -> TrainArgs:
    """`TrainArgs` from a checkpoint's JSON."""
    known = {field.name for field in dataclasses.fields(TrainArgs)}
    values = {name: value for name, value in with_defaults(stored).items() if name in known}
    for name in ("dataset_dir", "auxiliary", "lora_targets"):
        values[name] = tuple(values[name])
    values["dataset_dir"] = tuple(map(Path, values["dataset_dir"]))
    values["out"] = Path(values["out"])
    for name in ("feature_cache", "init_from"):
        values[name] = None if values[name] is None else Path(values[name])
    return TrainArgs(**values)


def fresh_settings(directories: tuple[Path, ...]) -> TrainArgs:
    """What `tinyvla train` would train these datasets with, given no other flag."""
    return TrainArgs(dataset_dir=directories)


def _find(path: Path) -> tuple[Path | None, Path | None]:
    """(checkpoint, dataset): one of the two."""
    if (path / "meta" / "info.json").exists():
        return None, path
    if (path / "state.json").exists():
        return path, None
    for name in ("best", "last", "last.old"):
        if (path / name / "state.json").exists():
            return path / name, None
    raise UsageError(f"{path} is no run, no checkpoint and no dataset")


def _check_fits(checkpoint: Checkpoint, data_spec: PolicySpec, where: Path) -> None:
    """Raise UsageError where a checkpoint's network was made for other data: what it says of these means nothing."""
    check_same_senses(checkpoint.spec, data_spec, str(where))
    made_for, there = (
        [f"{camera.name} {camera.width}x{camera.height}" for camera in spec.cameras]
        for spec in (checkpoint.spec, data_spec)
    )
    if made_for != there:
        raise UsageError(f"{where}: its cameras are {made_for}, the dataset's are {there}")


def open_subject(given: SubjectArgs) -> Subject:
    """Open `given.path`.

    Raises:
        UsageError: nothing there that can be diagnosed, or its data are elsewhere or another policy's.
    """
    if given.samples < 2 or given.seed < 0:
        raise UsageError("--samples must be at least 2 and --seed 0 or more")
    where, dataset = _find(given.path)
    checkpoint = None
    epochs: tuple[EpochReport, ...] = ()
    if where is not None:
        checkpoint = load_checkpoint(find_checkpoint(where))
        args = _settings(checkpoint.state["arguments"])
        directories = given.dataset_dir or args.dataset_dir
        absent = [str(place) for place in directories if not place.exists()]
        if absent:
            raise UsageError(f"the data of {where} are not at {absent[0]}; say where with --dataset-dir")
        epochs = read_epochs(where.parent / EPOCHS)
        about = f"{where}: {args.head} policy after {checkpoint.state['progress']['steps']} optimiser steps"
    else:
        assert dataset is not None
        directories = (dataset, *given.dataset_dir)
        args = fresh_settings(directories)
        about = f"{dataset}: a dataset, with a fresh network"
    args = dataclasses.replace(args, dataset_dir=directories)
    if given.lr is not None:
        args = dataclasses.replace(args, lr=given.lr)
    if given.batch_size is not None:
        args = dataclasses.replace(args, batch_size=given.batch_size)
    check_flags(args)
    tokens_of = text_encoder(args.backbone is not None)
    data = open_training_data(
        directories, args.horizon, args.max_prefix, args.val_split, args.split_seed, tokens_of
    )
    names = tuple(data.facts.environment_state_names or ())
    auxiliary = Auxiliary.choose(args.auxiliary, names, data.caches)
    data_spec = make_spec(args, data.facts, data.caches, [train for train, _ in data.splits])
    if checkpoint is not None and where is not None:
        _check_fits(checkpoint, data_spec, where)
    config = checkpoint.network if checkpoint is not None else choose_network(args, auxiliary)
    if (
        auxiliary.names != config.auxiliary_targets
    ):  # other data; the head for them was trained on other names
        auxiliary = Auxiliary.choose((), (), data.caches)
    return Subject(
        about=about,
        args=with_preset(args, len(data.train)),
        spec=checkpoint.spec if checkpoint is not None else data_spec,
        data_spec=data_spec,
        data=data,
        auxiliary=auxiliary,
        config=config,
        checkpoint=checkpoint,
        epochs=epochs,
        device=torch_device(given.device, None),
        given=given,
    )
