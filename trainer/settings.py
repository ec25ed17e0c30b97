"""Flags of `tinyvla train`, the presets by dataset size, how the two combine, and how a run remembers them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from policy.errors import UsageError
from policy.networks.config import NetworkConfig


@dataclass(frozen=True)
class TrainArgs:
    """Train a diffusion or regression policy on a LeRobotDataset v3.0.

    Flags left at None come from the preset, which follows from the number of training samples.
    """

    dataset_dir: Annotated[tuple[Path, ...], tyro.conf.arg(aliases=["--dataset"])]
    """One or several datasets made with the same cameras and rates."""
    out: Path = Path("runs/train")
    """Run directory: checkpoints, log, TensorBoard events."""
    name: str | None = None
    """Name of the policy; default the run directory's."""
    head: Literal["diffusion", "regression"] = "diffusion"
    preset: Literal["auto", "small", "medium", "large"] = "auto"
    """small < 1,000 samples <= medium <= 5,000 < large."""
    epochs: int | None = None
    batch_size: Annotated[int | None, tyro.conf.arg(aliases=["--bs", "--batch_size"])] = None
    lr: float | None = None
    patience: int | None = None
    """Stop after this many epochs without a better validation loss; 0 never stops early."""
    grad_accum: Annotated[int, tyro.conf.arg(aliases=["--grad_accum"])] = 1
    """Batches per optimiser step and process."""
    warmup_ratio: Annotated[float, tyro.conf.arg(aliases=["--warmup_ratio"])] = 0.03
    max_grad_norm: Annotated[float, tyro.conf.arg(aliases=["--max_grad_norm"])] = 1.0
    weight_decay: float = 0.01
    diffusion_timesteps: Annotated[int, tyro.conf.arg(aliases=["--diffusion_timesteps"])] = 100
    prediction_type: Literal["sample", "epsilon", "v_prediction"] = "sample"
    ddim_steps: int = 10
    """Default number of sampling steps written into the policy."""
    temperature: float = 0.0
    """Standard deviation, 0 ... 1, of the noise that a chunk is drawn from, written into the policy; training itself
    is with full noise. From none the same chunk comes whatever the seed, and it succeeds more often."""
    horizon: int = 48
    """Actions per chunk, at the control rate."""
    max_prefix: int = 32
    """Longest prefix of committed actions trained on; 0 trains without prefixes."""
    prefix_probability: float = 0.4
    """Share of samples that get a prefix."""
    prefix_noise: float = 0.0
    """Standard deviation of an offset on the prefix, as a share of the half range: without it a policy may believe
    its own mistakes."""
    draws: int = 4
    """Noise draws per image: the encoder runs once for all of them."""
    hidden_dim: Annotated[int, tyro.conf.arg(aliases=["--hidden_dim"])] = 192
    layers: int = 4
    backbone: str | None = None
    """Vision-language model to see through: a directory, or a repository of the Hugging Face Hub."""
    backbone_revision: str | None = None
    """Branch, tag or commit on the hub; the policy records the commit."""
    backbone_dtype: Literal["auto", "bf16", "fp32"] = "auto"
    """Number format of the backbone, in training as in serving; auto follows --precision."""
    lora_rank: int = 0
    """Rank of low-rank adapters on the backbone; 0 leaves it frozen."""
    lora_alpha: int = 16
    """Adapters are scaled by this over their rank."""
    lora_targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")
    """Linear layers that carry an adapter, by the ends of their names."""
    gradient_checkpointing: bool = False
    """Compute the backbone's activations again in the backward pass instead of keeping them."""
    feature_cache: Path | None = None
    """Directory that keeps what a frozen backbone saw, for later epochs and other runs."""
    feature_cache_gb: float = 20.0
    """Gigabytes (10^9 bytes) of the feature cache; what was used longest ago goes first."""
    val_split: Annotated[float, tyro.conf.arg(aliases=["--val_split"])] = 0.05
    """Share of whole episodes held out; of whole sessions where the dataset knows them."""
    split_seed: int = 0
    """Chooses which. Not --seed: validation losses can be compared only where the same episodes are held out."""
    shift: int = 3
    """Random shift of the images in training, pixels."""
    state_dropout: float = 0.2
    """Share of samples that do not see the state: without it a policy copies where its own hand is."""
    state_noise: float = 0.01
    """Standard deviation of noise on the state, as a share of its half range."""
    sensor_dropout: float = 0.1
    """Share of samples that do not see a sensor: without it the policy cannot do without the sensor, and its contract
    says so."""
    sensor_loss_weight: float = 1.0
    """Weight in the loss of samples shown sensor data, against 1 of the others; the batch's mean weight stays 1."""
    auxiliary: tuple[str, ...] = ("object", "object2", "goal")
    """Positions predicted from the images as a training-only target, where the dataset has them."""
    auxiliary_weight: float = 0.2
    """Of their mean squared error, in standard deviations."""
    ema_decay: float = 0.999
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """auto: bf16 where the processor has instructions for it."""
    device: str = "auto"
    fsdp: bool = False
    """Under torchrun or `accelerate launch`: shard weights, gradients and Adam's moments over the processes."""
    threads: int = 0
    """CPU threads; 0 leaves torch's default."""
    save_every: int = 500
    """Optimiser steps between `last` checkpoints within an epoch; 0 saves at the ends of epochs only."""
    keep_every: int = 10
    """Epochs between checkpoints that are kept."""
    log_every: int = 50
    """Optimiser steps between entries in the trackers: loss by timestep, gradient norms by block, speed."""
    pictures_every: int = 5
    """Epochs between pictures of sampled chunks over demonstrated ones; 0 draws none."""
    wandb: bool = False
    """Log to Weights & Biases too; WANDB_MODE=offline keeps the run on this machine."""
    evaluate_every: int = 0
    """Epochs between evaluations in closed loop, in simulation; 0 makes none."""
    evaluate_tasks: tuple[str, ...] = ()
    """MetaWorld tasks of those evaluations; default the dataset's own, and the needle rig has but one."""
    evaluate_episodes: int = 5
    """Episodes per task: enough to see a trend, too few to quote (`tinyvla evaluate` measures)."""
    evaluate_workers: int = max(1, os.cpu_count() or 1)
    """Processes."""
    calibration: Path | None = None
    """calibration.json of `tinyvla calibrate`: say how often checkpoints of such a validation loss succeeded."""
    resume: bool = False
    """Go on from `last` in --out; the result is that of an unbroken run."""
    init_from: Path | None = None
    """Fine-tune from the weights and statistics of this checkpoint directory or policy bundle."""
    seed: int = 0
    debug: bool = False
    """Two epochs of a few batches, to see that everything runs."""


def arguments_of(args: TrainArgs) -> dict[str, Any]:
    """The settings as JSON holds them."""
    return json.loads(json.dumps(asdict(args), default=str))


def with_defaults(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a run as `arguments_of` gives them, and what it did about flags that are newer than the run."""
    # That is their defaults, but for the temperature: before it could be chosen, chunks were drawn from full noise; and
    # but for the held-out episodes, which were chosen by --seed.
    before = arguments_of(TrainArgs(dataset_dir=(), temperature=1.0, split_seed=arguments.get("seed", 0)))
    return {**before, **arguments}


# Epochs, batch size, learning rate, patience by number of samples.
_PRESETS: dict[str, dict[str, float]] = {
    "small": {"epochs": 15, "batch_size": 4, "lr": 1e-4, "patience": 8},
    "medium": {"epochs": 30, "batch_size": 8, "lr": 1e-4, "patience": 10},
    "large": {"epochs": 50, "batch_size": 16, "lr": 5e-5, "patience": 15},
}


def preset_for(samples: int) -> str:
    """The preset's name for a number of training samples."""
    if samples < 1000:
        return "small"
    return "medium" if samples <= 5000 else "large"


@dataclass(frozen=True)
class ResolvedArgs(TrainArgs):
    """`TrainArgs` with every None of the preset filled in."""

    epochs: int = 0
    batch_size: int = 0
    lr: float = 0.0
    patience: int = 0


def with_preset(args: TrainArgs, samples: int) -> ResolvedArgs:
    """`args` with every None filled in."""
    chosen = _PRESETS[preset_for(samples) if args.preset == "auto" else args.preset]
    values = {field.name: getattr(args, field.name) for field in fields(args)}
    values |= {key: type_(chosen[key]) for key, type_ in _TYPES.items() if values[key] is None}
    if args.debug:
        values["epochs"] = 2
    return ResolvedArgs(**values)


_TYPES = {"epochs": int, "batch_size": int, "lr": float, "patience": int}

_POSITIVE = (
    "epochs", "batch_size", "lr", "grad_accum", "max_grad_norm", "diffusion_timesteps", "ddim_steps", "horizon",
    "draws", "hidden_dim", "layers", "sensor_loss_weight", "log_every", "evaluate_episodes", "evaluate_workers",
    "lora_alpha", "feature_cache_gb",
)  # fmt: skip
_NOT_NEGATIVE = (
    "patience", "weight_decay", "max_prefix", "prefix_noise", "shift", "state_noise", "auxiliary_weight", "threads",
    "save_every", "keep_every", "pictures_every", "evaluate_every", "seed", "split_seed", "lora_rank",
)  # fmt: skip
_SHARES = (
    "warmup_ratio",
    "prefix_probability",
    "val_split",
    "state_dropout",
    "sensor_dropout",
    "ema_decay",
    "temperature",
)


def check_flags(args: TrainArgs) -> None:
    """Raise UsageError for the first flag whose value cannot work."""
    network = NetworkConfig()
    rules = [
        *((name, lambda v: 0 < v < float("inf"), "above 0") for name in _POSITIVE),
        *((name, lambda v: 0 <= v < float("inf"), "0 or more") for name in _NOT_NEGATIVE),
        *((name, lambda v: 0 <= v <= 1, "between 0 and 1") for name in _SHARES),
        (
            "horizon",
            lambda v: v % network.actions_per_token == 0,
            f"a multiple of {network.actions_per_token}",
        ),
        ("hidden_dim", lambda v: v % network.heads == 0, f"a multiple of {network.heads}"),
        ("max_prefix", lambda v: v < args.horizon, f"below --horizon {args.horizon}"),
    ]
    for name, holds, wanted in rules:
        value = getattr(args, name)
        if value is not None and not holds(value):
            raise UsageError(f"--{name.replace('_', '-')} must be {wanted}, got {value}")
    for name, given in (
        ("backbone-revision", args.backbone_revision is not None),
        ("backbone-dtype", args.backbone_dtype != "auto"),
        ("lora-rank", args.lora_rank > 0),
        ("feature-cache", args.feature_cache is not None),
    ):
        if given and args.backbone is None:
            raise UsageError(f"--{name} is for a backbone; add --backbone DIR_OR_NAME")
    if args.gradient_checkpointing and not args.lora_rank:
        raise UsageError("--gradient-checkpointing does nothing for a frozen backbone; add --lora-rank")
    if args.lora_rank and not args.lora_targets:
        raise UsageError("--lora-targets names no layers; leave it out for those of attention")
    if args.feature_cache is not None and args.lora_rank:
        raise UsageError(
            "--feature-cache keeps what a frozen backbone sees, and adapters change that; drop --lora-rank"
        )
    if args.feature_cache is not None and args.shift:
        raise UsageError("--feature-cache: shifted images are new ones every time; add --shift 0")
