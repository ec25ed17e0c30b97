"""What a training step takes, tensor by tensor, without taking it: a step on tensors that have shapes and no storage.

torch's MemTracker follows every allocation of the step under FakeTensorMode, so that what is predicted is the peak of
the very code that trains, and not a formula beside it. Through a backbone, images and texts are real: its processor
turns them into tokens, and masks over tokens decide shapes.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from policy.networks.network import PolicyNetwork
from policy.spec import PolicySpec
from policy.text import MAX_TOKENS, to_bytes
from trainer.diagnosis.memory_backbone import frozen_tensors, see_as_in_training
from trainer.diagnosis.subject import Subject
from trainer.losses import Corruption, Example, compute_losses, draw_corruption
from trainer.optimizer import make_optimizer

MB = 1e6


@dataclass(frozen=True)
class Budget:
    """Megabytes (10^6 bytes) at the peak of a training step."""

    batch_size: int
    weights: float  # that are trained
    frozen: float  # weights of a backbone, where it is asked
    average: float  # the averaged weights (EMA)
    gradients: float  # all of them, when the optimiser steps
    adam: float  # two moments
    batch: float  # observations, targets and noise; pixels for a backbone while they are there
    activations: float  # at the peak: what the backward pass needs, and temporaries
    peak: float  # less than the sum: gradients come as activations go


def example_of(subject: Subject, batch: int) -> tuple[Example, Corruption]:
    """A batch of the right shapes; its values do not matter."""
    spec, camera, args = subject.spec, subject.spec.cameras[0], subject.args
    sensors: list[torch.Tensor] = []
    for sensor in spec.sensors:
        sensors += [torch.zeros(batch, sensor.window, sensor.channels), torch.ones(batch, sensor.window)]
    example = Example(
        images=torch.zeros(batch, len(spec.cameras), camera.height, camera.width, 3, dtype=torch.uint8),
        tokens=instruction_of(spec).repeat(batch, 1),
        state=torch.zeros(batch, spec.state.dim),
        actions=torch.zeros(batch, spec.horizon, spec.action.dim),
        executed=torch.zeros(batch, spec.horizon, spec.action.dim),
        lead=torch.zeros(batch, dtype=torch.int64),
        valid=torch.ones(batch, spec.horizon, dtype=torch.bool),
        auxiliary=torch.zeros(batch, len(subject.config.auxiliary_targets)),
        sensors=tuple(sensors),
    )
    corruption = draw_corruption(
        torch.Generator().manual_seed(0), batch, args.draws, spec, prefix_probability=0.0, state_noise=0.0,
        state_dropout=0.0,
    )  # fmt: skip
    return example, corruption


def instruction_of(spec: PolicySpec) -> Tensor:
    """int64 [1, L]: for a backbone, whose tokens are as many as the text has, the longest one of the data."""
    if spec.backbone is None:
        return torch.ones(1, MAX_TOKENS, dtype=torch.int64)
    texts = [text for texts in spec.instruction.by_task.values() for text in texts]
    return torch.from_numpy(to_bytes(max(texts, key=len)))[None]


def train_step(
    subject: Subject, network: PolicyNetwork, optimizer: torch.optim.Optimizer, batch: tuple[Example, Corruption],
    bf16: bool,
) -> None:  # fmt: skip
    """Forward, backward, clip, step: what the trainer does."""
    args = subject.args
    with torch.autocast(batch[0].state.device.type, torch.bfloat16, enabled=bf16):
        found = compute_losses(network, subject.spec, *batch)
    (found.action + args.auxiliary_weight * found.auxiliary).backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), args.max_grad_norm)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def channels_last(network: nn.Module) -> None:
    """`network.to(memory_format=torch.channels_last)`, which does not work on tensors without storage."""
    for module in network.modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is not None and parameter.ndim == 4:
                moved = parameter.detach().to(memory_format=torch.channels_last)
                module._parameters[name] = nn.Parameter(moved)


def predict(subject: Subject, batch_size: int, bf16: bool, from_cache: bool = False) -> Budget:
    """The peak of the second step, when Adam's moments are there.

    Args:
        from_cache: of a run through a frozen backbone, a step whose features all come from the feature cache. The
            backbone is not asked, and its weights, which stay in main memory, are not counted.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    from trainer.diagnosis.memory_fake import without_storage

    logging.getLogger("torch.distributed._tools").setLevel(logging.ERROR)
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    if subject.spec.backbone is not None:
        network = without_storage(PolicyNetwork(subject.spec, subject.config), mode)
        return _follow(subject, network, batch_size, bf16, from_cache)
    with mode:
        return _follow(subject, PolicyNetwork(subject.spec, subject.config), batch_size, bf16, from_cache)


def _follow(
    subject: Subject, network: PolicyNetwork, batch_size: int, bf16: bool, from_cache: bool
) -> Budget:
    from torch.distributed._tools.mem_tracker import MemTracker

    from trainer.diagnosis.memory_fake import RealMasks, without_gradients

    tracker = MemTracker()
    channels_last(network)
    batch = example_of(subject, batch_size)
    optimizer = make_optimizer(network, 1e-4, 0.01)
    held = [tensor for part in batch for tensor in tensors_of(part)]
    tracker.track_external(network, optimizer, *held)

    def seen(value: Tensor) -> Tensor:
        tracker.track_external(value)
        return value

    backbone = see_as_in_training(network, subject, from_cache, seen)
    frozen: list[Tensor] = []
    if backbone is not None and not from_cache:
        frozen = frozen_tensors(backbone)
        tracker.track_external(backbone.model)
        without_gradients(tracker, frozen)
    with tracker, RealMasks():
        train_step(subject, network, optimizer, batch, bf16)
        tracker.reset_mod_stats()
        train_step(subject, network, optimizer, batch, bf16)
    peak = tracker.get_tracker_snapshot("peak")
    kinds = {str(getattr(kind, "value", kind)): size / MB for kind, size in next(iter(peak.values())).items()}
    weights = megabytes_of(list(network.parameters()))
    return Budget(
        batch_size=batch_size, weights=weights, frozen=megabytes_of(frozen), average=weights, gradients=weights,
        adam=2 * weights, batch=kinds["Other"], activations=kinds["Activation"] + kinds["Temp"],
        peak=kinds["Total"] + weights,
    )  # fmt: skip


def megabytes_of(tensors: Sequence[Tensor]) -> float:
    """What they take, 10^6 bytes."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors) / MB


def tensors_of(part: Example | Corruption) -> list[torch.Tensor]:
    """Everything that a batch holds."""
    found: list[torch.Tensor] = []
    for value in vars(part).values():
        found += list(value) if isinstance(value, tuple) else [value]
    return found


def largest_batch(known: Sequence[Budget], megabytes: float) -> tuple[int, float] | None:
    """(batch size, peak in MB) of the largest batch that fits; None when not even one sample does.

    Args:
        known: at least two budgets. From some batch on the peak is where the backward pass begins, and grows by the
            same for every sample: the line is that of the two largest.
    """
    one, two = sorted(known, key=lambda budget: budget.batch_size)[-2:]
    each = (two.peak - one.peak) / (two.batch_size - one.batch_size)
    most = int(two.batch_size + (megabytes - two.peak) / each)
    return (most, two.peak + (most - two.batch_size) * each) if most >= 1 else None
