"""TorchScript code without weights: traced with the weights as arguments, so that a bundle stores them once."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn


def export_torchscript(
    graph: nn.Module, names: Sequence[str], inputs: tuple[Tensor, ...], path: Path
) -> None:
    """Trace `graph` with its weights as the first argument.

    Args:
        names: the graph's weights, in the order of that argument; kept in the file as JSON.
    """
    graph = copy.deepcopy(graph)  # its parameters are replaced by the traced arguments
    owners = [(graph.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2]) for name in names]
    weights = tuple(graph.get_parameter(name).detach() for name in names)

    def run(weights: tuple[Tensor, ...], *arguments: Tensor) -> Tensor:
        for (module, leaf), weight in zip(owners, weights, strict=True):
            module._parameters[leaf] = weight  # type: ignore[assignment]
        return graph(*arguments)

    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(run, (weights, *inputs), check_trace=False)
    torch.jit.save(traced, str(path), _extra_files={"weights.json": json.dumps(list(names))})
