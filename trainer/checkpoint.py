"""Checkpoints: safetensors for tensors, JSON for everything else, put in place by a rename.

A checkpoint is a directory with `model.safetensors`, `ema.safetensors`, `optimizer.safetensors`, `state.json` (spec,
network sizes, arguments, position in the data) and `SHA256SUMS` over the four. No pickles.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from policy.bundle import WEIGHTS, read_spec
from policy.checksums import check_checksums, write_checksums
from policy.errors import UsageError
from policy.networks.backbone.files import expect_backbone
from policy.networks.config import NetworkConfig
from policy.networks.network import PolicyNetwork
from policy.put_in_place import put_in_place
from policy.spec import PolicySpec
from trainer.shards import like_shard, whole

_FORMAT = "tinyvla-checkpoint/1"


class _AnotherFormat(Exception):
    """The document is readable and is not this one's."""


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint directory holds."""

    spec: PolicySpec
    network: NetworkConfig
    state: dict[str, Any]
    model: dict[str, Tensor]
    ema: dict[str, Tensor]
    optimizer: dict[str, Tensor]

    def build(self, weights: str = "ema") -> PolicyNetwork:
        """The network with the averaged ("ema") or the raw ("model") weights, in evaluation mode."""
        network = PolicyNetwork(self.spec, self.network)
        network.load_state_dict(self.ema if weights == "ema" else self.model)
        return network.eval()


def _optimizer_tensors(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, Tensor]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    tensors = {}
    for parameter, values in optimizer.state.items():
        for key, value in values.items():
            tensors[f"{names[id(parameter)]}/{key}"] = whole(value).clone().contiguous()
    return tensors


def restore_optimizer(optimizer: torch.optim.Optimizer, model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Put Adam's moments back where `_optimizer_tensors` found them."""
    by_name = dict(model.named_parameters())
    for key, value in tensors.items():
        name, _, field = key.rpartition("/")
        parameter = by_name[name]
        if field == "step":  # a fused optimiser counts where the parameter lies
            optimizer.state[parameter][field] = value.to(parameter.device)
            continue
        moment = like_shard(value, parameter)
        if moment is value:
            # In the parameter's own memory layout: fused optimisers walk through memory, and would pair a channels-last
            # weight with another weight's moments.
            moment = torch.empty_like(parameter).copy_(value)
        optimizer.state[parameter][field] = moment


def save_checkpoint(
    directory: Path | None, model: PolicyNetwork, ema: nn.Module, optimizer: torch.optim.Optimizer,
    spec: PolicySpec, state: dict[str, Any],
) -> None:  # fmt: skip
    """Write a checkpoint so that `directory` holds either the old one or the new one, never a part.

    With None the process only hands its shards of a spread network to the one that writes.

    Raises:
        UsageError: the disk is full, or forbids it; what was written before stays.
    """
    parts = {
        "model": {key: whole(value).contiguous() for key, value in model.state_dict().items()},
        "ema": {key: value.contiguous() for key, value in ema.state_dict().items()},
        "optimizer": _optimizer_tensors(optimizer, model),
    }
    if directory is None:
        return
    building, old = (
        directory.with_name(directory.name + ".building"),
        directory.with_name(directory.name + ".old"),
    )
    document = {
        "format": _FORMAT,
        "spec": spec.model_dump(mode="json"),
        "network": model.config.to_json(),
        **state,
    }
    shutil.rmtree(building, ignore_errors=True)
    try:
        _write(building, parts, document)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(building, ignore_errors=True)
        raise UsageError(
            f"{directory}: cannot be written ({error}); make room, then --resume goes on from the checkpoint before"
        ) from error
    put_in_place(building, directory, old)


def _write(building: Path, parts: dict[str, dict[str, Tensor]], document: dict[str, Any]) -> None:
    building.mkdir(parents=True)
    for name, tensors in parts.items():
        save_file(tensors, building / f"{name}.safetensors")
    (building / "state.json").write_text(json.dumps(document, indent=1))
    write_checksums(building, (path.name for path in building.iterdir()))


def find_checkpoint(directory: Path) -> Path:
    """Where a checkpoint lies; UsageError where there is none, or a whole run.

    A kill between the two renames of `save_checkpoint` leaves the previous one under its old name.
    """
    for place in (directory, directory.with_name(directory.name + ".old")):
        if (place / "best").is_dir() or (place / "last").is_dir():
            raise UsageError(f"{place} is a run; name one of its checkpoints, such as {place / 'best'}")
        if place.exists():
            return place
    raise UsageError(f"no checkpoint at {directory}")


def load_checkpoint(directory: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        UsageError: no checkpoint there, or a damaged one.
    """
    directory = find_checkpoint(directory)
    try:
        check_checksums(directory)
        state = json.loads((directory / "state.json").read_text())
        if state.get("format") != _FORMAT:
            raise _AnotherFormat
        tensors = {
            name: load_file(directory / f"{name}.safetensors") for name in ("model", "ema", "optimizer")
        }
        spec = PolicySpec.model_validate(state.pop("spec"))
        network = NetworkConfig.from_json(state.pop("network"))
    except _AnotherFormat:
        raise UsageError(f"{directory} is no {_FORMAT} checkpoint") from None
    # safetensors, JSON and pydantic raise types of their own; all mean the same here.
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(f"the checkpoint at {directory} is damaged: {reason}") from error
    place = state.get("backbone_directory")
    # It may have moved since, and this process have seen it elsewhere.
    if spec.backbone is not None and place and Path(place).is_dir():
        expect_backbone(spec.backbone.sha256, Path(place))
    return Checkpoint(spec=spec, network=network, state=state, **tensors)


def load_weights(directory: Path) -> tuple[dict[str, Tensor], PolicySpec, tuple[str, ...]]:
    """Averaged weights in 32 bits, the contract and the auxiliary targets, of a checkpoint or of a policy bundle.

    A bundle's weights lack the head for auxiliary targets, and so it has none.

    Raises:
        UsageError: neither is there, or it is damaged.
    """
    if (directory / "policy.json").exists():
        spec = read_spec(directory)
        return {name: tensor.float() for name, tensor in load_file(directory / WEIGHTS).items()}, spec, ()
    found = load_checkpoint(directory)
    return found.ema, found.spec, found.network.auxiliary_targets
