"""What goes into a policy and what comes out, and the check of an observation against the contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from policy.errors import TinyVLAError, contract_mismatch

if TYPE_CHECKING:  # a robot that sends observations needs no pydantic for that
    from policy.spec import PolicySpec

MAX_SAMPLES = 32
# Of a state, sensor value or committed action: nothing in a robot's units is larger, and float32 squares to 3e38.
LARGEST = 1e12


@dataclass(frozen=True)
class Observation:
    """One instant as the robot saw it."""

    images: Mapping[str, np.ndarray]  # camera name -> uint8 [H, W, 3] RGB, any resolution
    state: np.ndarray  # float32 [D], physical units, in the spec's order
    instruction: str = ""
    sensors: Mapping[str, np.ndarray] = field(default_factory=dict)  # name -> float32 [T, C], oldest first


@dataclass(frozen=True)
class SampleOptions:
    """How to draw the chunk; `None` means the policy's default."""

    ddim_steps: int | None = None
    sampler: Literal["ddim", "ddpm"] = "ddim"
    seed: int | None = None
    prefix: np.ndarray | None = None  # float32 [d, A], physical units; comes back as the chunk's first d
    samples: int = 1


@dataclass(frozen=True)
class Prediction:
    """One chunk, in physical units."""

    actions: np.ndarray  # float32 [horizon, A]
    uncertainty: np.ndarray | None  # float32 [horizon], only when several samples were drawn
    ddim_steps: int  # network evaluations really made: 1 for regression, train_steps for DDPM
    sampler: str
    seed: int
    encode_ms: float
    sample_ms: float
    features: np.ndarray | None = None  # float32 [F], what was seen; None where the policy cannot reuse it


def check_observation(spec: PolicySpec, observation: Observation) -> None:
    """Raise `contract_mismatch` at the first field that does not fit the policy's contract."""
    wanted = {camera.name for camera in spec.cameras}
    if set(observation.images) != wanted:
        raise contract_mismatch(
            "images", f"cameras {sorted(wanted)}", f"cameras {sorted(observation.images)}"
        )
    for name, image in observation.images.items():
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise contract_mismatch(f"images.{name}", "uint8 [H, W, 3]", f"{image.dtype} {list(image.shape)}")

    state = observation.state
    if state.shape != (spec.state.dim,):
        named = ", ".join(spec.state.names)
        raise contract_mismatch("state", f"[{spec.state.dim}] ({named})", str(list(state.shape)))
    _check_sane("state", state, spec.state.names)

    if spec.instruction.required and not any(map(str.isalnum, observation.instruction)):
        raise contract_mismatch("instruction", "the task in words", "nothing")

    by_name = {sensor.name: sensor for sensor in spec.sensors}
    for name, window in observation.sensors.items():
        if name not in by_name:
            raise contract_mismatch(f"sensors.{name}", f"one of {sorted(by_name)}", "an unknown sensor")
        sensor = by_name[name]
        if window.ndim != 2 or window.shape[1] != sensor.channels or window.shape[0] > sensor.window:
            raise contract_mismatch(
                f"sensors.{name}", f"[T <= {sensor.window}, {sensor.channels}]", str(list(window.shape))
            )
        _check_sane(f"sensors.{name}", window)
    for sensor in spec.sensors:
        if not sensor.optional and not len(observation.sensors.get(sensor.name, ())):
            raise contract_mismatch(f"sensors.{sensor.name}", "a window", "nothing")


def check_options(spec: PolicySpec, options: SampleOptions) -> None:
    """Raise `contract_mismatch` when the sampling options ask for what the policy cannot do.

    A regression policy takes any positive `ddim_steps` and answers with the one pass it made, so that the same call
    goes to either kind of policy and outlives a hot swap between them.
    """
    steps, sampler = options.ddim_steps, spec.sampler
    if steps is not None and sampler is not None and not 1 <= steps <= sampler.train_steps:
        raise contract_mismatch("ddim_steps", f"1 ... {sampler.train_steps}", str(steps))
    if steps is not None and steps < 1:
        raise contract_mismatch("ddim_steps", "1 or more", str(steps))
    if options.sampler not in ("ddim", "ddpm"):
        raise contract_mismatch("sampler", "'ddim' or 'ddpm'", repr(options.sampler))
    if not 1 <= options.samples <= MAX_SAMPLES:
        raise contract_mismatch("samples", f"1 ... {MAX_SAMPLES}", str(options.samples))
    if options.seed is not None and not 0 <= options.seed < 2**63:
        raise TinyVLAError(
            "malformed", "seed must lie in 0 ... 2^63 - 1", field="seed", actual=str(options.seed)
        )
    if options.prefix is not None:
        prefix = options.prefix
        if prefix.ndim != 2 or prefix.shape[1] != spec.action.dim or prefix.shape[0] > spec.max_prefix:
            raise contract_mismatch(
                "prefix", f"[d <= {spec.max_prefix}, {spec.action.dim}]", str(list(prefix.shape))
            )
        _check_sane("prefix", prefix)


def _check_sane(field: str, values: np.ndarray, names: Sequence[str] = ()) -> None:
    """Raise `contract_mismatch` for NaN, infinity, and what would become one of them on its way through the policy."""
    # Three times as fast as looking at each value, and not so for NaN. Integers would overflow unseen.
    if values.dtype.kind == "f" and np.vdot(values, values) < LARGEST**2 / 2:
        return
    sane = np.abs(values) <= LARGEST
    if not sane.all():
        which = (
            f" in {', '.join(name for name, good in zip(names, sane, strict=True) if not good)}"
            if names
            else ""
        )
        raise contract_mismatch(
            field, f"finite values, at most {LARGEST:g}", f"NaN, infinity or a larger one{which}"
        )
