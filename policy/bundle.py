"""Reading a policy bundle: hashes verified, golden pair replayed, nothing unpickled.

A bundle is a directory: `policy.json` (the contract), `model.safetensors` (all weights, once, 16 bits), `see.onnx`,
`fuse.onnx` and `denoise.onnx` (graphs whose weights point into model.safetensors), the same as `.pt` (TorchScript code
that takes the weights as arguments), `golden.npz` (an input and the chunk it must give), `SHA256SUMS` and `README.md`.
Older bundles have no SHA256SUMS, and one graph `encode` for the first two where what was seen cannot be reused.
A policy with a backbone has no graph `see`: torch runs the backbone, in `backbone/` or where the contract says it is,
and the golden pair also holds what it saw.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from policy.checksums import check_checksums, file_hash
from policy.errors import UsageError
from policy.loaded import Backend, LoadedPolicy
from policy.observation import Observation, SampleOptions
from policy.runtimes.choose import RUNTIMES, choose, this_machine
from policy.spec import PolicySpec

WEIGHTS = "model.safetensors"
BUILDING = ".building"  # ends the name of a directory that no server loads: it is being written, or
BEFORE = f".before{BUILDING}"  # was replaced by a process that was killed before it had removed it
GOLDEN_TOLERANCE = 1e-4  # of the action range; the bound every runtime is exported under
GOLDEN_SEED = 0
# Of the norm of what a backbone saw: its 16-bit arithmetic differs between processors and cards.
SEEN_TOLERANCE = 0.1
_SUFFIXES = {"onnx": ".onnx", "torchscript": ".pt"}


def read_spec(directory: Path) -> PolicySpec:
    """The contract of a bundle, after checking every file against its hash.

    Raises:
        UsageError: no bundle, an unreadable contract, a missing or altered file.
    """
    path = directory / "policy.json"
    if not path.is_file():
        raise UsageError(f"no policy bundle at {directory}: there is no policy.json")
    check_checksums(directory, only=("policy.json",))  # which lists the other files itself
    try:
        spec = PolicySpec.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        raise UsageError(f"{path}: {where}: {first['msg']}") from None
    for name, expected in spec.files.items():
        file = directory / name
        if Path(name).name != name or not file.is_file():
            raise UsageError(f"{directory}: {name} is missing; export or fetch the bundle again")
        if file_hash(file) != expected:
            raise UsageError(f"{directory}: {name} is not the file that was exported (SHA-256 differs)")
    return spec


def write_golden(
    path: Path, observation: Observation, actions: np.ndarray, seen: np.ndarray | None = None
) -> None:
    """Store an observation and the chunk that eager torch gives for it; of a backbone also what it saw."""
    arrays = {f"images.{name}": image for name, image in observation.images.items()}
    arrays |= {f"sensors.{name}": window for name, window in observation.sensors.items()}
    if seen is not None:
        arrays["seen"] = seen
    text = np.frombuffer(json.dumps(observation.instruction).encode(), np.uint8)
    np.savez_compressed(path, state=observation.state, instruction=text, actions=actions, **arrays)  # type: ignore[arg-type]


def read_golden(path: Path) -> tuple[Observation, np.ndarray]:
    """Inverse of `write_golden`."""
    with np.load(path, allow_pickle=False) as stored:
        arrays = dict(stored)
    observation = Observation(
        images={key[7:]: value for key, value in arrays.items() if key.startswith("images.")},
        sensors={key[8:]: value for key, value in arrays.items() if key.startswith("sensors.")},
        state=arrays["state"],
        instruction=json.loads(arrays["instruction"].tobytes()),
    )
    return observation, arrays["actions"]


def read_golden_seen(path: Path) -> np.ndarray | None:
    """What the backbone saw of the golden observation [T, W]; None of a policy without one."""
    with np.load(path, allow_pickle=False) as stored:
        return stored.get("seen")


def golden_error(policy: LoadedPolicy, directory: Path) -> float:
    """Largest deviation from the golden chunk, as a share of the action range.

    Where a backbone sees for the policy, the chunk is drawn from what it saw when the bundle was written.
    """
    observation, expected = read_golden(directory / "golden.npz")
    seen = read_golden_seen(directory / "golden.npz")
    found = policy.predict([observation], [SampleOptions(seed=GOLDEN_SEED)], [seen])[0].actions
    half = (np.asarray(policy.spec.action.high) - np.asarray(policy.spec.action.low)) / 2
    return float(np.max(np.abs(found - expected) / half))


def seen_error(policy: LoadedPolicy, directory: Path) -> float:
    """How far off what the backbone sees here is, as a share of its norm; 0 of a policy without one."""
    expected = read_golden_seen(directory / "golden.npz")
    if expected is None:
        return 0.0
    observation, _ = read_golden(directory / "golden.npz")
    found = policy.predict([observation], [SampleOptions(seed=GOLDEN_SEED)])[0].features
    if found is None or found.shape != expected.shape:
        return float("inf")
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def graphs_of(spec: PolicySpec, runtime: str) -> tuple[str, ...]:
    """Names of the graphs that an exported runtime loads, as the contract lists them."""
    if f"encode{_SUFFIXES[runtime]}" in spec.files:
        return ("encode", "denoise")
    return ("see", "fuse", "denoise") if spec.backbone is None else ("fuse", "denoise")


def exported_runtimes(spec: PolicySpec) -> list[str]:
    """The runtimes that a bundle holds graphs for; eager needs none."""
    return [name for name, suffix in _SUFFIXES.items() if f"denoise{suffix}" in spec.files]


def _check_listed(directory: Path, spec: PolicySpec, runtime: str) -> None:
    """Refuse to use a file that the contract gives no hash for."""
    graphs = graphs_of(spec, runtime) if runtime in _SUFFIXES else ()
    for name in (WEIGHTS, "golden.npz", *(graph + _SUFFIXES[runtime] for graph in graphs)):
        if name not in spec.files:
            raise UsageError(f"{directory}: policy.json lists no hash of {name}; export the bundle again")


def make_backend(
    directory: Path, spec: PolicySpec, runtime: str, device: str, threads: int | None
) -> Backend:
    """The backend that runs a bundle's graphs; its libraries are imported only here."""
    if spec.backbone is not None and runtime != "eager":
        return _with_backbone(
            directory, spec, make_head(directory, spec, runtime, device, threads), device, threads
        )
    return make_head(directory, spec, runtime, device, threads)


def _with_backbone(
    directory: Path, spec: PolicySpec, head: Backend, device: str, threads: int | None
) -> Backend:
    try:
        from policy.runtimes.torch_backbone import BackboneBackend
    except ImportError:
        raise UsageError(
            f"{spec.name} sees through {spec.backbone and spec.backbone.name}, which takes torch; run: "
            "pip install -c constraints.txt -e '.[vlm]'"
        ) from None
    return BackboneBackend(directory, spec, head, device, threads)


def make_head(directory: Path, spec: PolicySpec, runtime: str, device: str, threads: int | None) -> Backend:
    """What runs the exported graphs, whoever sees for them."""
    if runtime == "onnx":
        from policy.runtimes.onnx import OnnxBackend

        return OnnxBackend(directory, graphs_of(spec, runtime), device, threads)
    if runtime == "torchscript":
        from policy.runtimes.torchscript import TorchScriptBackend

        return TorchScriptBackend(directory, graphs_of(spec, runtime), device, threads)
    from policy.runtimes.eager import EagerBackend

    return EagerBackend.from_bundle(directory, spec, device, threads)


def load_bundle(
    path: str | Path, runtime: str = "auto", device: str = "auto", threads: int | None = None
) -> LoadedPolicy:
    """Load, verify and warm a bundle.

    Args:
        runtime: auto, onnx, torchscript or eager.
        device: auto, cpu or cuda.
        threads: processor threads of the runtime; None leaves its default.

    Raises:
        UsageError: missing or damaged bundle, a runtime that is not installed, or a golden pair that is off.
    """
    directory = Path(path)
    spec = read_spec(directory)
    if runtime not in ("auto", *RUNTIMES):
        raise UsageError(f"unknown runtime {runtime!r}; choose auto, onnx, torchscript or eager")
    choice = choose(runtime, device, exported_runtimes(spec), this_machine(device))
    runtime = choice.runtime
    _check_listed(directory, spec, runtime)
    try:
        backend = make_backend(directory, spec, runtime, choice.device, threads)
        policy = LoadedPolicy(spec, backend, choice.why)
        error, blindness = golden_error(policy, directory), seen_error(policy, directory)
    except UsageError:
        raise
    except ModuleNotFoundError as missing:
        raise UsageError(
            f"the {runtime} runtime needs {missing.name}, which is not installed; run: "
            "pip install -c constraints.txt -e '.[train]'"
        ) from None
    except Exception as failure:  # runtimes raise types of their own for files that do not fit the contract
        reason = (str(failure).splitlines() or [type(failure).__name__])[0]
        raise UsageError(
            f"{directory}: {runtime} cannot replay golden.npz: {reason}; export or fetch the bundle again"
        ) from failure
    if not error <= GOLDEN_TOLERANCE:
        raise UsageError(
            f"{directory}: {policy.runtime} on {policy.device} misses the golden pair by {error:.1e} of the action "
            f"range (at most {GOLDEN_TOLERANCE:.0e}); the bundle was exported by other code or the runtime is broken"
        )
    if not blindness <= SEEN_TOLERANCE:
        raise UsageError(
            f"{directory}: the backbone on {policy.device} sees the golden observation {blindness:.1e} of its norm "
            f"away from what was exported (at most {SEEN_TOLERANCE:g}); other versions of transformers or torch see "
            "differently, so install those of constraints.txt"
        )
    return policy
