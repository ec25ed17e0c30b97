"""What training does take: the most that torch's allocator held at once, from an empty start to a second step."""

from __future__ import annotations

import os

import torch

from trainer.diagnosis.memory_model import MB, example_of, train_step
from trainer.diagnosis.subject import Subject
from trainer.optimizer import make_optimizer


def two_steps(subject: Subject, batch_size: int, bf16: bool) -> None:
    """All that training holds: weights, their average, Adam's moments, a batch, and two steps on it."""
    network = subject.fresh()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = [p.detach().clone() for p in network.parameters()]
    optimizer = make_optimizer(network, 1e-4, 0.01)
    example, corruption = example_of(subject, batch_size)
    batch = example.to(subject.device), corruption.to(subject.device)
    for _ in range(2):
        train_step(subject, network, optimizer, batch, bf16)
    del average  # until here it took its place, as in training


def measure(subject: Subject, batch_size: int, bf16: bool) -> float:
    """Megabytes (10^6 bytes) of tensors at the peak.

    What libraries allocate past torch is not in it: a CUDA context, or oneDNN's buffers on a processor.
    """
    if subject.device.type == "cuda":
        before = torch.cuda.memory_allocated(subject.device)
        torch.cuda.reset_peak_memory_stats(subject.device)
        two_steps(subject, batch_size, bf16)
        return (torch.cuda.max_memory_allocated(subject.device) - before) / MB
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it tells of its own start and stop
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        two_steps(subject, batch_size, bf16)
    events = profiler.profiler.kineto_results.events()  # type: ignore[union-attr]
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    held = largest = 0
    for _, change in changes:
        held += change
        largest = max(largest, held)
    return largest / MB
