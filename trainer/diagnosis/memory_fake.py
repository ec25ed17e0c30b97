"""A policy's network and its backbone as copies that have shapes and no storage, and what they need to be followed."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.hooks import RemovableHandle

from policy.networks.network import PolicyNetwork
from trainer.diagnosis.memory_backbone import backbone_of


def without_storage(network: PolicyNetwork, mode: FakeTensorMode) -> PolicyNetwork:
    """A copy of a network with a backbone, and of the backbone, on weights without storage."""
    backbone = backbone_of(network)
    assert backbone is not None
    memo: dict[int, Any] = {}
    for module in (network, backbone.model):
        memo |= {id(parameter): _fake_parameter(parameter, mode) for parameter in module.parameters()}
        memo |= {id(buffer): mode.from_tensor(buffer) for buffer in module.buffers()}
    replica = copy.copy(backbone)
    replica.model = copy.deepcopy(backbone.model, memo)
    replica.adapters = copy.deepcopy(backbone.adapters, memo)
    memo[id(backbone)] = replica
    return copy.deepcopy(network, memo)


def _fake_parameter(parameter: nn.Parameter, mode: FakeTensorMode) -> nn.Parameter:
    return nn.Parameter(mode.from_tensor(parameter.detach()), requires_grad=parameter.requires_grad)


def without_gradients(tracker: MemTracker, frozen: Sequence[Tensor]) -> None:
    """Keep the tracker from hooking on to gradients of these, which is an error: it hooks where it has not yet."""
    for tensor in frozen:
        if isinstance(tensor, nn.Parameter):
            hooked = RemovableHandle(OrderedDict()), RemovableHandle(OrderedDict())
            tracker._param_to_grad_hook_handles[tensor] = hooked


class RealMasks(TorchDispatchMode):
    """Index by where a mask with values is true: made a fake tensor it would tell no number of rows."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.index.Tensor and isinstance(args[0], FakeTensor):
            places: list[Tensor | None] = []
            for index in args[1]:
                places += index.nonzero(as_tuple=True) if _is_real_mask(index) else [index]
            args = (args[0], places)
        return func(*args, **(kwargs or {}))


def _is_real_mask(index: Tensor | None) -> bool:
    return index is not None and index.dtype == torch.bool and not isinstance(index, FakeTensor)
