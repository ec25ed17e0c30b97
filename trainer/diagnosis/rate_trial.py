"""Short trainings from the same start on the same batches, one per learning rate: which of them are stable?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from policy.networks.network import PolicyNetwork
from trainer.device import wants_bf16
from trainer.diagnosis.subject import Subject
from trainer.losses import Corruption, Example, Losses, compute_losses, draw_corruption, to_example
from trainer.optimizer import make_optimizer

# A rate is unstable when it stays this much above where it began, or above the best rate below it, or when its worst
# batch is this much worse than the same batches are at the gentlest rate.
_ABOVE, _SPIKE = 1.25, 2.0
# Past its edge a training swings from step to step, and may end low by luck: so its second half is judged as a whole.
_JUDGED_EVERY = 3  # steps
_MOST_SAMPLES = 32  # a batch; more would only make the trial longer
_JUDGED = 64  # samples that are not trained on in the trial, where there are that many


@dataclass(frozen=True)
class Trial:
    """What came of one rate."""

    rate: float
    before: float  # loss on the samples that are judged, before the first step
    highest: float  # of the training batches
    after: float  # mean loss on the same samples over the second half; infinity when anything was not finite
    largest_gradient: float  # norm before clipping


Batches = list[tuple[Example, Corruption]]


def trial_batches(subject: Subject, steps: int) -> tuple[Batches, Batches]:
    """(training batches, batches to judge by), as training sees them, without image shifts."""
    args, samples = subject.args, subject.data.train
    rng = np.random.default_rng([subject.seed, 0x7A1])
    order = rng.permutation(len(samples))
    judged, rest = np.split(order, [min(_JUDGED, len(order) // 2)])
    size = min(args.batch_size, _MOST_SAMPLES, len(rest))

    def batch(rows: np.ndarray, number: int) -> tuple[Example, Corruption]:
        example = to_example(
            samples.batch(np.sort(rows)),
            subject.spec,
            subject.auxiliary.index,
            subject.auxiliary.stats,
            subject.device,
        )
        corruption = draw_corruption(
            torch.Generator().manual_seed(number), len(rows), min(args.draws, 2), subject.spec,
            prefix_probability=args.prefix_probability, state_noise=args.state_noise,
            state_dropout=args.state_dropout, sensor_dropout=args.sensor_dropout,
        ).to(subject.device)  # fmt: skip
        return example, corruption

    trained = [batch(rng.choice(rest, size, replace=False), step) for step in range(steps)]
    return trained, [
        batch(rows, steps + i) for i, rows in enumerate(np.array_split(judged, -(-len(judged) // 32)))
    ]


def run_trial(
    subject: Subject, network: PolicyNetwork, trained: Batches, judged: Batches, rate: float
) -> Trial:
    """Train `network` at `rate`, the first quarter of the batches as warm-up."""
    args = subject.args
    bf16 = wants_bf16(args.precision, subject.device)

    def losses(batch: tuple[Example, Corruption]) -> Losses:
        with torch.autocast(subject.device.type, torch.bfloat16, enabled=bf16):
            return compute_losses(network, subject.spec, *batch, args.sensor_loss_weight)

    @torch.no_grad()
    def verdict() -> float:
        return float(np.mean([float(losses(batch).action) for batch in judged]))

    optimizer = make_optimizer(network, rate, args.weight_decay)
    network.train()
    before = verdict()
    highest = largest = 0.0
    after = []
    for step, batch in enumerate(trained):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, 4 * (step + 1) / len(trained))
        found = losses(batch)
        (found.action + args.auxiliary_weight * found.auxiliary).backward()
        norm = float(torch.nn.utils.clip_grad_norm_(network.parameters(), args.max_grad_norm))
        highest, largest = max(highest, float(found.action.detach())), max(largest, norm)
        if not (math.isfinite(highest) and math.isfinite(norm)):
            return Trial(rate, before, math.inf, math.inf, math.inf)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        left = len(trained) - 1 - step
        if left % _JUDGED_EVERY == 0 and left <= len(trained) // 2:
            after.append(verdict())
    return Trial(rate, before, highest, float(np.mean(after)), largest)


def judge(trials: Sequence[Trial]) -> dict[float, bool]:
    """Rate -> whether it is unstable, given trials in ascending order of rate, the first of them a gentle one."""
    verdicts, best = {}, math.inf
    for trial in trials:
        verdicts[trial.rate] = (
            not math.isfinite(trial.after)
            or trial.after > _ABOVE * min(trial.before, best)
            or trial.highest > _SPIKE * trials[0].highest
        )
        best = min(best, trial.after)
    return verdicts
