"""FSDP2: a network whose tensors are spread over the processes of a run, and its tensors put together again."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def shard(root: nn.Module, device: torch.device) -> None:
    """Shard in place: each repeated layer by itself, so that only one is whole at a time, then what is left."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    root.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    layers = [
        layer
        for parent in reversed(list(root.modules()))  # from the inside out
        if isinstance(parent, nn.ModuleList)
        for layer in parent
        if not isinstance(layer, nn.ModuleList) and any(True for _ in layer.parameters())
    ]
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(root, mesh=mesh)


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor of which this process may hold a shard; then every process must ask for it."""
    full = getattr(tensor, "full_tensor", None)
    return tensor if full is None else full()


def like_shard(value: Tensor, parameter: Tensor) -> Tensor:
    """`value`, which is whole, spread as `parameter` is; itself where that is whole, too."""
    mesh = getattr(parameter, "device_mesh", None)
    if mesh is None:
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(parameter.device), mesh, parameter.placements)  # type: ignore[attr-defined]
