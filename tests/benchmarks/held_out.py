"""How much of a validation loss is owed to which episodes are held out: one network, many choices.

    python -m tests.benchmarks.held_out runs/ablations/trained/default-seed0/best --choices 10

The run's own held-out episodes come first, then those that other values of `--split-seed` would have chosen. Of these
the network was trained on most, so that its loss there is lower than that of episodes kept from it would be.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from policy.networks.network import PolicyNetwork
from policy.runtimes.torch_device import torch_device
from trainer.auxiliary import Auxiliary
from trainer.checkpoint import load_checkpoint
from trainer.settings import with_defaults
from trainer.training_data import open_training_data
from trainer.validation import validate


def losses(checkpoint: Path, data: Sequence[Path], choices: int) -> list[float]:
    """Validation losses of a checkpoint, its own run's held-out episodes first."""
    found = load_checkpoint(checkpoint)
    arguments = with_defaults(found.state["arguments"])
    own = arguments["split_seed"]
    network = PolicyNetwork(found.spec, found.network)
    network.load_state_dict(found.ema)
    network.to(torch_device("auto", None)).eval()
    told = []
    for seed in [own, *(seed for seed in range(choices) if seed != own)]:
        opened = open_training_data(
            data or [Path(place) for place in arguments["dataset_dir"]],
            found.spec.horizon, found.spec.max_prefix, arguments["val_split"], seed,
        )  # fmt: skip
        nothing = Auxiliary.choose((), (), opened.caches)
        told.append(
            validate(
                network, found.spec, opened.held_out, nothing, draws=arguments["draws"], seed=0, limit=4096, bf16=False
            ).loss
        )  # fmt: skip
        episodes = sum(len(held_out) for _, held_out in opened.splits)
        print(f"held out by {seed}: {episodes} episodes, {len(opened.held_out)} samples, loss {told[-1]:.4f}")
    return told


def main() -> None:
    """Print the loss of each choice, and how far they lie apart."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--dataset-dir", type=Path, nargs="*", default=())
    parser.add_argument("--choices", type=int, default=10)
    asked = parser.parse_args()
    own, *others = losses(asked.checkpoint, asked.dataset_dir, asked.choices)
    print(
        f"others lie at {np.min(others):.4f} to {np.max(others):.4f}, {min(others) / own:.2f} to "
        f"{max(others) / own:.2f} times its own"
    )


if __name__ == "__main__":
    main()
