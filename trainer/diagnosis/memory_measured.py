"""What training does take: the most that torch's allocator held at once, from an empty start to a second step."""

from __future__ import annotations

import os

import torch
from torch import Tensor

from policy.networks.backbone.model import Backbone, open_backbone
from trainer.diagnosis.memory_backbone import frozen_tensors, see_as_in_training
from trainer.diagnosis.memory_model import MB, example_of, megabytes_of, train_step
from trainer.diagnosis.subject import Subject
from trainer.optimizer import make_optimizer


def two_steps(subject: Subject, batch_size: int, bf16: bool, from_cache: bool = False) -> None:
    """All that training holds: weights, their average, Adam's moments, a batch, and two steps on it."""
    network = subject.fresh()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    see_as_in_training(network, subject, from_cache, _torchs_own)
    average = [p.detach().clone() for p in network.parameters()]
    optimizer = make_optimizer(network, 1e-4, 0.01)
    example, corruption = example_of(subject, batch_size)
    batch = example.to(subject.device), corruption.to(subject.device)
    for _ in range(2):
        train_step(subject, network, optimizer, batch, bf16)
    del average  # until here it took its place, as in training


def _torchs_own(value: Tensor) -> Tensor:
    """The same in memory that torch allocated: a profiler sees no other, and processors work with NumPy."""
    return value.clone()


def measure(subject: Subject, batch_size: int, bf16: bool, from_cache: bool = False) -> float:
    """Megabytes (10^6 bytes) of tensors at the peak.

    What libraries allocate past torch is not in it: a CUDA context, or oneDNN's buffers on a processor.

    Args:
        from_cache: see `predict`.
    """
    backbone = None if subject.spec.backbone is None else open_backbone(subject.spec)
    loaded = 0.0 if backbone is None or from_cache else _already_there(backbone, subject.device)
    grown = _growth_on_card if subject.device.type == "cuda" else _growth_on_processor
    return loaded + grown(subject, batch_size, bf16, from_cache)


def _already_there(backbone: Backbone, device: torch.device) -> float:
    """Megabytes of frozen weights that are on the device before the first step, where no allocation is seen."""
    return megabytes_of([tensor for tensor in frozen_tensors(backbone) if tensor.device.type == device.type])


def _growth_on_card(subject: Subject, batch_size: int, bf16: bool, from_cache: bool) -> float:
    before = torch.cuda.memory_allocated(subject.device)
    torch.cuda.reset_peak_memory_stats(subject.device)
    two_steps(subject, batch_size, bf16, from_cache)
    return (torch.cuda.max_memory_allocated(subject.device) - before) / MB


def _growth_on_processor(subject: Subject, batch_size: int, bf16: bool, from_cache: bool) -> float:
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it tells of its own start and stop
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        two_steps(subject, batch_size, bf16, from_cache)
    events = profiler.profiler.kineto_results.events()  # type: ignore[union-attr]
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    held = largest = 0
    for _, change in changes:
        held += change
        largest = max(largest, held)
    return largest / MB
