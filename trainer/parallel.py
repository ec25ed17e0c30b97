"""Several processes train one policy: who they are, what they exchange, and how the network is spread over them.

`torchrun` or `accelerate launch` starts the processes and `accelerate` lets them find one another. What spreads the
network is torch's own: DDP, which keeps it whole in every process, or FSDP2, which shards weights, gradients and Adam's
moments. Both work over gloo on processors, too, and so can be tested anywhere.
"""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from policy.networks.network import PolicyNetwork
from trainer.losses import Corruption, Example, Losses
from trainer.shards import shard

T = TypeVar("T")

# The other processes wait while the first evaluates in closed loop.
_PATIENCE = timedelta(hours=6)

Pass = Callable[[Example, Corruption], Losses]


def launched() -> bool:
    """Whether a launcher started several processes."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def wants_shards(fsdp: bool) -> bool:
    """`--fsdp`, or `accelerate launch --use_fsdp`."""
    return fsdp or os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"


class Processes:
    """A run of one process: everything stays as it is."""

    rank, count, sharded = 0, 1, False

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def total(self, values: Sequence[float]) -> list[float]:
        """The sums over all processes, the same in each of them."""
        return list(values)

    def in_turn(self, make: Callable[[], T]) -> T:
        """What `make` returns, called by one process after the other where they would write the same files."""
        return make()

    def spread(self, network: PolicyNetwork, losses: Pass) -> Pass:
        """`losses`, a forward pass through `network`, so that its gradients become the mean over all processes."""
        return losses

    @contextmanager
    def gradients(self, *, complete: bool) -> Iterator[None]:
        """Around a pass: after the one that completes an optimiser step, the processes agree on its gradients."""
        yield

    def close(self) -> None:
        """Leave the others."""


class _Whole(nn.Module):
    """DDP and FSDP hook into one module's `forward`; the policy network has several entries."""

    def __init__(self, network: PolicyNetwork, losses: Pass) -> None:
        super().__init__()
        self.network = network
        self._losses = losses

    def forward(self, example: Example, corruption: Corruption) -> dict[str, Tensor]:
        return dict(vars(self._losses(example, corruption)))


class LaunchedProcesses(Processes):
    """One of several processes.

    Args:
        device: what `--device` asks for; of several cards each process of a machine takes its own.
        sharded: FSDP instead of DDP.
    """

    def __init__(self, device: torch.device, sharded: bool) -> None:
        from accelerate import PartialState

        self._state: Any = PartialState(cpu=device.type == "cpu", timeout=_PATIENCE)
        super().__init__(self._state.device)
        self.rank, self.count = self._state.process_index, self._state.num_processes
        self.sharded = sharded
        self._spread: Any = None

    def total(self, values: Sequence[float]) -> list[float]:
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(tensor)
        return tensor.tolist()

    def in_turn(self, make: Callable[[], T]) -> T:
        # The first of all, then the first of every other machine (whose disk may be its own), then the rest.
        local = self._state.local_process_index
        mine = 0 if self.rank == 0 else 1 if local == 0 else 2
        made: list[T] = []
        for turn in range(3):
            if turn == mine:
                made.append(make())
            self._state.wait_for_everyone()
        return made[0]

    def spread(self, network: PolicyNetwork, losses: Pass) -> Pass:
        whole = _Whole(network, losses)
        if self.sharded:
            shard(whole, self.device)
            self._spread = whole
        else:
            # What a run has no targets for (auxiliary positions) takes no part in the loss.
            ids = None if self.device.type == "cpu" else [self.device]
            self._spread = nn.parallel.DistributedDataParallel(
                whole, device_ids=ids, find_unused_parameters=True
            )
        return lambda example, corruption: Losses(**self._spread(example, corruption))

    @contextmanager
    def gradients(self, *, complete: bool) -> Iterator[None]:
        # Shards are summed at every pass: a whole gradient waiting for the last one would undo what sharding saves.
        with nullcontext() if complete or self.sharded else self._spread.no_sync():
            yield

    def close(self) -> None:
        self._state.destroy_process_group()
        # Threads that gloo leaves behind now and then abort a process that ends in the usual way (torch 2.13).
        if self.device.type == "cpu" and sys.exc_info()[0] is None:
            atexit.register(_leave)


def _leave() -> None:
    """End a process that is done, without waiting for anybody's threads."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def join(device: torch.device, fsdp: bool) -> Processes:
    """This process alone, or among those that a launcher started with it."""
    return LaunchedProcesses(device, wants_shards(fsdp)) if launched() else Processes(device)
