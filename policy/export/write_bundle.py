"""Write a policy bundle: weights once, two runtimes' graphs, a golden pair, and the proof that they agree."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from policy.bundle import BEFORE, BUILDING, GOLDEN_SEED, WEIGHTS, load_bundle, write_golden
from policy.checksums import file_hash, write_checksums
from policy.errors import UsageError
from policy.export.graphs import (
    DenoiseGraph,
    FuseGraph,
    Graph,
    SeeGraph,
    denoise_inputs,
    fuse_inputs,
    see_inputs,
)
from policy.export.model_card import model_card
from policy.export.onnx_graphs import export_onnx
from policy.export.torchscript_graphs import export_torchscript
from policy.loaded import LoadedPolicy
from policy.networks.backbone.files import BUNDLED, find_recorded
from policy.networks.network import PolicyNetwork
from policy.observation import Observation, SampleOptions
from policy.put_in_place import put_in_place
from policy.runtimes.eager import EagerBackend
from policy.spec import PolicySpec


def golden_observation(spec: PolicySpec) -> Observation:
    """A synthetic observation inside the contract: smooth colour ramps, the middle of the state's range."""
    images = {}
    for number, camera in enumerate(spec.cameras):
        y, x = np.mgrid[0 : camera.height, 0 : camera.width]
        planes = [255 * y / camera.height, 255 * x / camera.width, 60.0 * number + 0 * x]
        images[camera.name] = np.stack(planes, -1).astype(np.uint8)
    stats = spec.normalization.state
    state = (np.asarray(stats.minimum) + np.asarray(stats.maximum)) / 2
    texts = [text for texts in spec.instruction.by_task.values() for text in texts]
    sensors = {s.name: np.zeros((s.window, s.channels), np.float32) for s in spec.sensors}
    return Observation(images, state.astype(np.float32), texts[0] if texts else "move", sensors)


def round_weights(network: PolicyNetwork) -> dict[str, torch.Tensor]:
    """Round the weights in place to 16 bits and return what a bundle stores (no training-only parts)."""
    kept = {}
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            half = tensor.cpu().half()
            if not torch.isfinite(half).all():
                raise UsageError(f"weight {name} does not fit 16 bits; the training has diverged")
            tensor.copy_(half.to(tensor.dtype))
            if not name.startswith("encoder.auxiliary."):
                kept[name] = half.contiguous()
    return kept


def copy_backbone(spec: PolicySpec, directory: Path) -> None:
    """Put the backbone's files into `directory`.

    Raises:
        UsageError: no backbone to copy, or not the one that the policy was trained with.
    """
    if spec.backbone is None:
        raise UsageError(f"{spec.name} has no backbone to copy")
    directory.mkdir()
    for path in find_recorded(spec.backbone).listed():
        shutil.copyfile(path, directory / path.name)


def write_bundle(
    directory: Path, network: PolicyNetwork, spec: PolicySpec, *, with_backbone: bool = False
) -> PolicySpec:
    """Write `directory` (replacing a bundle that is there) and load it back with every runtime.

    The golden chunk is what eager torch gives with the rounded weights; a bundle whose ONNX or TorchScript misses it by
    more than the tolerance is not put in place.

    Args:
        with_backbone: copy the backbone into the bundle, which otherwise names it.

    Returns:
        The spec as stored, with the hashes of all files.

    Raises:
        UsageError: the directory is something else, or a runtime misses the golden pair.
    """
    directory = directory.resolve()  # a link to a bundle stays one, and `.` gets a name
    if directory.exists() and any(directory.iterdir()) and not (directory / "policy.json").exists():
        raise UsageError(f"{directory} is not empty and is no policy bundle; choose another --out")
    building = directory.with_name(directory.name + BUILDING)
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    network = network.cpu().eval()
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    weights = round_weights(network)
    save_file(weights, building / WEIGHTS)
    if with_backbone:
        copy_backbone(spec, building / BUNDLED)

    graphs: dict[str, tuple[Graph, tuple[list[str], tuple[torch.Tensor, ...]]]] = {
        "fuse": (FuseGraph(network), fuse_inputs(spec, network, batch=2)),
        "denoise": (DenoiseGraph(network), denoise_inputs(spec, network, batch=2)),
    }
    if spec.backbone is None:  # which torch runs as it is
        graphs["see"] = SeeGraph(network), see_inputs(spec, batch=2)
    for file, (graph, (names, inputs)) in graphs.items():
        used = [name for name, _ in graph.named_parameters() if name.startswith(graph.weights)]
        export_torchscript(graph, used, inputs, building / f"{file}.pt")
        export_onnx(graph, names, inputs, graph.output, building / f"{file}.onnx", building / WEIGHTS)

    observation = golden_observation(spec)
    eager = LoadedPolicy(spec, EagerBackend(network, "cpu"))
    golden = eager.predict([observation], [SampleOptions(seed=GOLDEN_SEED)])[0]
    seen = golden.features if spec.backbone is not None else None
    write_golden(building / "golden.npz", observation, golden.actions, seen)
    (building / "README.md").write_text(model_card(spec))
    listed = [path for path in sorted(building.iterdir()) if path.is_file() and path.name != "README.md"]
    files = {path.name: file_hash(path) for path in listed}
    spec = spec.model_copy(update={"files": files, "network": network.config.to_json()})
    (building / WEIGHTS).chmod(0o644)  # safetensors writes for its owner alone
    (building / "policy.json").write_text(spec.model_dump_json(indent=1) + "\n")
    write_checksums(building, [*files, "policy.json"])
    for runtime in ("eager", "onnx", "torchscript"):
        load_bundle(building, runtime, "cpu")  # raises when it misses the golden pair
    put_in_place(building, directory, directory.with_name(directory.name + BEFORE))
    return spec
