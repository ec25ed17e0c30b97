"""A training batch: which samples, shifted how, under which noise; a function of its number and the seed alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from policy.spec import PolicySpec
from trainer.augment import random_shift
from trainer.auxiliary import Auxiliary
from trainer.loader import Samples, batches_per_epoch, rows_of_batch
from trainer.losses import Corruption, Example, draw_corruption, to_example
from trainer.settings import ResolvedArgs


def training_batch(
    number: int, per_epoch: int, samples: Samples, spec: PolicySpec, auxiliary: Auxiliary, args: ResolvedArgs,
    device: torch.device,
) -> tuple[Example, Corruption]:  # fmt: skip
    """Batch `number` of the run, counted from 0, on `device`.

    Args:
        per_epoch: batches that the run takes of an epoch; `--debug` takes fewer than there are.
    """
    epoch, within = divmod(number, per_epoch)
    place = epoch * batches_per_epoch(len(samples), args.batch_size) + within
    rows = rows_of_batch(place, len(samples), args.batch_size, args.seed)
    batch = samples.batch(rows)
    rng = np.random.default_rng([args.seed, number, 1])
    batch = dataclasses.replace(batch, images=random_shift(batch.images, args.shift, rng))
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    corruption = draw_corruption(
        generator, len(rows), args.draws, spec, prefix_probability=args.prefix_probability,
        state_noise=args.state_noise, state_dropout=args.state_dropout, prefix_noise=args.prefix_noise,
        sensor_dropout=args.sensor_dropout,
    )  # fmt: skip
    example = to_example(batch, spec, auxiliary.index, auxiliary.stats, device)
    return example, corruption.to(device)
