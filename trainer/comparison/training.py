"""How two policies were trained, and whether comparing them says something about their heads alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from policy.bundle import read_spec
from policy.spec import PolicySpec
from trainer.comparison.settings import place_of
from trainer.settings import with_defaults

# Of the arguments of training these belong to a head, change nothing that is learnt, or are compared in another way:
# data and backbone by hash, the batches of a step over all processes.
_MAY_DIFFER = frozenset(
    {
        "head", "diffusion_timesteps", "prediction_type", "ddim_steps", "temperature", "name", "out", "dataset_dir",
        "preset", "resume", "device", "threads", "save_every", "keep_every", "log_every", "pictures_every", "wandb",
        "evaluate_every", "evaluate_tasks", "evaluate_episodes", "evaluate_workers", "calibration", "fsdp",
        "feature_cache_gb", "grad_accum", "init_from", "backbone",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Trained:
    """What a policy's contract or checkpoint says of its training."""

    spec: PolicySpec
    arguments: Mapping[str, Any]  # of `tinyvla train`; empty where it is not said
    data: tuple[str, ...]  # SHA-256 of the datasets, sorted
    network: Mapping[str, Any]  # sizes of encoder and trunk
    steps: int | None  # optimiser steps of these weights
    weights: str  # averaged or raw
    processes: int = 1  # that trained together

    @property
    def batches_per_step(self) -> int:
        """Over all processes."""
        return self.arguments.get("grad_accum", 1) * self.processes


def read_training(path: Path) -> Trained:
    """Of a bundle, a checkpoint or a run directory.

    Raises:
        UsageError: none of them, or a damaged one.
    """
    kind, place = place_of(path)
    if kind == "bundle":
        spec = read_spec(place)
        told = spec.training
        return Trained(
            spec, told.get("arguments", {}), _hashes(told.get("data_sha256")), spec.network,
            told.get("optimizer_steps"), told.get("weights", "ema"), told.get("processes", 1),
        )  # fmt: skip
    from trainer.checkpoint import load_checkpoint

    found = load_checkpoint(place)
    state = found.state
    return Trained(
        found.spec, state.get("arguments", {}), _hashes(state.get("data_hashes")), found.network.to_json(),
        state.get("progress", {}).get("steps"), "ema", state.get("processes", 1),
    )  # fmt: skip


def _hashes(told: Any) -> tuple[str, ...]:
    return tuple(sorted(told.values())) if isinstance(told, dict) else ()


def _backbone(spec: PolicySpec) -> str | None:
    return None if spec.backbone is None else spec.backbone.sha256


def unfair_because(first: Trained, second: Trained) -> list[str]:
    """What differs beside the head, in words; nothing for a fair comparison."""
    silent = [
        letter
        for letter, trained in zip("AB", (first, second), strict=True)
        if not trained.arguments or not trained.data
    ]
    if silent:
        return [f"how {' and '.join(silent)} {'were' if len(silent) > 1 else 'was'} trained is not recorded"]
    found = []
    if first.spec.head == second.spec.head:
        found.append(f"both are {first.spec.head} policies")
    if first.data != second.data:
        found.append("they were trained on different data (SHA-256 of the datasets)")
    one, other = with_defaults(first.arguments), with_defaults(second.arguments)
    for name in sorted((one.keys() | other.keys()) - _MAY_DIFFER):
        if one.get(name) != other.get(name):
            found.append(f"--{name.replace('_', '-')}: {one.get(name)} against {other.get(name)}")
    began = [arguments.get("init_from") for arguments in (one, other)]
    if any(began):  # of the weights there is a path at most, or the last part of one
        found.append(f"--init-from: {began[0]} against {began[1]}; which weights these were is not recorded")
    if _backbone(first.spec) != _backbone(second.spec):
        found.append("they see through other backbones")
    if first.batches_per_step != second.batches_per_step:
        found.append(f"batches a step: {first.batches_per_step} against {second.batches_per_step}")
    if _plain(first.network) != _plain(second.network):
        found.append("their networks differ in size")
    if [c.model_dump() for c in first.spec.cameras] != [c.model_dump() for c in second.spec.cameras]:
        found.append("they see other cameras")
    if [s.name for s in first.spec.sensors] != [s.name for s in second.spec.sensors]:
        found.append("they have other sensors")
    if first.weights != second.weights:
        found.append(f"weights: {first.weights} against {second.weights}")
    return found


def _plain(network: Mapping[str, Any]) -> dict[str, Any]:
    """Sizes as JSON holds them."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in network.items()}


def verdict(because: list[str], steps: Sequence[int | None] = ()) -> str:
    """For the report; `steps` are the optimiser steps of each policy's weights."""
    if because:
        return f"NOT a fair comparison of heads: {'; '.join(because)}."
    fair = "A fair comparison of heads: same data, budget, seed, encoder and settings."
    if len(set(steps)) <= 1:
        return fair
    # The best checkpoint need not be the last one; that of an early epoch has not had the budget.
    told = " against ".join("unknown" if number is None else f"{number:,}" for number in steps)
    return f"{fair} Of the budget these weights have had {told} optimiser steps."
