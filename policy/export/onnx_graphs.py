"""ONNX graphs whose weights are ranges of the bundle's safetensors file: stored once in 16 bits, run in 32."""

from __future__ import annotations

import inspect
import json
import logging
import struct
import warnings
from collections.abc import Sequence
from pathlib import Path

import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

_OPSET = 20


def _weight_ranges(weights: Path) -> dict[str, tuple[int, int]]:
    """Tensor name -> (offset, length) in bytes from the start of a safetensors file."""
    with weights.open("rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
    header.pop("__metadata__", None)
    return {
        name: (8 + size + entry["data_offsets"][0], entry["data_offsets"][1] - entry["data_offsets"][0])
        for name, entry in header.items()
    }


def _point_weights(model: onnx.ModelProto, weights: Path) -> None:
    """Replace every initializer that is a weight by its range of `weights` and a Cast to 32 bits."""
    ranges = _weight_ranges(weights)
    graph = model.graph
    kept, casts = [], []
    for tensor in graph.initializer:
        if tensor.name not in ranges:
            kept.append(tensor)
            continue
        offset, length = ranges[tensor.name]
        stored = TensorProto(name=f"{tensor.name}.fp16", data_type=TensorProto.FLOAT16, dims=tensor.dims)
        stored.data_location = TensorProto.EXTERNAL
        for key, value in (("location", weights.name), ("offset", str(offset)), ("length", str(length))):
            stored.external_data.add(key=key, value=value)
        kept.append(stored)
        casts.append(helper.make_node("Cast", [stored.name], [tensor.name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(kept)
    graph.node.extend(nodes)
    del graph.value_info[:]


def export_onnx(
    graph: nn.Module, names: Sequence[str], inputs: tuple[Tensor, ...], output: str, path: Path, weights: Path
) -> None:
    """Export `graph` with a dynamic batch to `path`; its weights are taken from `weights` in the same directory.

    Raises:
        ValueError: a weight of the graph is not in `weights`, which would store it twice.
    """
    batch = torch.export.Dim("batch", min=1, max=4096)
    shapes = tuple({0: batch} for _ in inputs)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Unoptimised: the exporter would otherwise fold transposed copies of weights into the graph.
        program = torch.onnx.export(
            graph,
            inputs,
            input_names=list(names),
            output_names=[output],
            dynamic_shapes=_dynamic(graph, shapes),
            opset_version=_OPSET,
            dynamo=True,
            optimize=False,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    for node in model.graph.node:  # stack traces of the export, ten times the size of the graph itself
        del node.metadata_props[:]
        node.doc_string = ""
    _point_weights(model, weights)
    large = [t.name for t in model.graph.initializer if not t.external_data and t.ByteSize() > 20_000]
    if large:
        raise ValueError(f"weights outside the safetensors file: {large}")
    onnx.save(model, str(path))


def _dynamic(graph: nn.Module, shapes: tuple) -> tuple:
    """Dynamic shapes in the nesting `forward` has: variadic sensors, where there are any, are one tuple."""
    kinds = [parameter.kind for parameter in inspect.signature(graph.forward).parameters.values()]
    fixed = sum(kind is not inspect.Parameter.VAR_POSITIONAL for kind in kinds)
    return shapes if len(shapes) == fixed else (*shapes[:fixed], shapes[fixed:])
