"""Which network a run trains: the sizes that follow from its settings and from its data."""

from __future__ import annotations

from policy.networks.config import NetworkConfig
from trainer.auxiliary import Auxiliary
from trainer.settings import TrainArgs


def choose_network(args: TrainArgs, auxiliary: Auxiliary) -> NetworkConfig:
    """The sizes of `--hidden-dim` and `--layers`, and a head for the auxiliary targets."""
    return NetworkConfig(hidden_dim=args.hidden_dim, layers=args.layers, auxiliary_targets=auxiliary.names)
