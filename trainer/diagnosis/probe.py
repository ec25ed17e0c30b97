"""What a network says on samples of the data, draw by draw, without training it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from policy.networks.network import PolicyNetwork
from trainer.diagnosis.subject import Subject
from trainer.loader import Samples
from trainer.losses import Corruption, Example, draw_corruption, run_pass, to_example

_BATCH = 32
_DRAWS = 4

Alter = Callable[[Example], Example]


@dataclass(frozen=True)
class Probe:
    """R draws of one or several samples each; normalised units."""

    chunk: np.ndarray  # float32 [R, H, A], what the trunk was given
    target: np.ndarray  # float32 [R, H, A]
    output: np.ndarray  # float32 [R, H, A]
    counted: np.ndarray  # bool [R, H]
    timestep: np.ndarray  # int64 [R]

    @property
    def loss(self) -> float:
        """As training computes it."""
        return self._mean((self.output - self.target) ** 2)

    @property
    def target_power(self) -> float:
        """The loss of a network that always says zero."""
        return self._mean(self.target**2)

    def _mean(self, values: np.ndarray) -> float:
        return float(values[self.counted].mean())

    def only(self, rows: np.ndarray) -> Probe:
        """Some of the draws."""
        return Probe(*(value[rows] for value in vars(self).values()))


def chosen_rows(samples: Samples, limit: int, seed: int) -> np.ndarray:
    """Up to `limit` positions, the same for the same seed."""
    order = np.random.default_rng([seed, 0xD1A]).permutation(len(samples))
    return np.sort(order[:limit])


def batches(
    subject: Subject, samples: Samples, draws: int = _DRAWS, batch: int = _BATCH
) -> Iterator[tuple[Example, Corruption]]:
    """The samples without augmentation, prefixes or dropout, with noise that follows from the seed."""
    rows = chosen_rows(samples, subject.samples, subject.seed)
    # Not in order of the data: neighbours in a batch would be alike, and exchanging them would change little.
    rows = np.random.default_rng(subject.seed).permutation(rows)
    for start in range(0, len(rows), batch):
        part = rows[start : start + batch]
        corruption = draw_corruption(
            torch.Generator().manual_seed(subject.seed + start), len(part), draws, subject.spec,
            prefix_probability=0.0, state_noise=0.0, state_dropout=0.0,
        ).to(subject.device)  # fmt: skip
        yield (
            to_example(
                samples.batch(part),
                subject.spec,
                subject.auxiliary.index,
                subject.auxiliary.stats,
                subject.device,
            ),
            corruption,
        )


@torch.no_grad()
def probe(
    subject: Subject, network: PolicyNetwork, samples: Samples | None = None, alter: Alter | None = None
) -> Probe:
    """Run `network`; `alter` changes what it is shown, never what is expected of it."""
    found = []
    for example, corruption in batches(subject, samples or subject.data.train):
        shown = example if alter is None else alter(example)
        shown = replace(shown, actions=example.actions, valid=example.valid)
        one = run_pass(network, subject.spec, shown, corruption)
        arrays = (one.chunk, one.target, one.output, one.counted.bool(), corruption.timestep)
        found.append([array.cpu().numpy() for array in arrays])
    return Probe(*(np.concatenate(part) for part in zip(*found, strict=True)))
