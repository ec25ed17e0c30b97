"""The contract: what a policy sees and what it does, as one versioned JSON document.

Everything else (server, clients, trainer, evaluation) is checked against a `PolicySpec`; nothing
about shapes, units, rates or normalisation is known anywhere else.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

FORMAT: Literal["tinyvla-policy/1"] = "tinyvla-policy/1"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CameraSpec(_Part):
    """One RGB view. Images of any size are accepted and brought to `height` x `width` by `resize`."""

    name: str
    height: int = Field(gt=0)
    width: int = Field(gt=0)
    color: Literal["rgb"] = "rgb"
    resize: Literal["stretch", "letterbox"] = "letterbox"
    filter: Literal["box", "bilinear"] = "bilinear"
    crop: tuple[float, float, float, float] | None = None
    """(top, left, height, width) as fractions of the incoming image, cut before resizing."""


class StateSpec(_Part):
    """The proprioceptive vector: one name and one unit per dimension, in order."""

    names: tuple[str, ...]
    units: tuple[str, ...]

    @model_validator(mode="after")
    def _same_length(self) -> StateSpec:
        if len(self.names) != len(self.units):
            raise ValueError(f"{len(self.names)} state names but {len(self.units)} units")
        return self

    @property
    def dim(self) -> int:
        return len(self.names)


class SensorSpec(_Part):
    """A windowed sensor stream: `window` samples of `channels` values at `rate_hz`, oldest first."""

    name: str
    channels: int = Field(gt=0)
    window: int = Field(gt=0)
    rate_hz: float = Field(gt=0)
    units: str
    optional: bool = True


class InstructionSpec(_Part):
    """Free text; `by_task` lists the texts the policy was trained on, task by task."""

    required: bool = True
    by_task: dict[str, tuple[str, ...]] = {}


class ActionSpec(_Part):
    """One action: names, units and bounds per dimension, at the robot's control rate."""

    # Within infinite bounds any chunk would be close to the golden one.
    model_config = ConfigDict(allow_inf_nan=False)

    names: tuple[str, ...]
    units: tuple[str, ...]
    kind: Literal["delta", "absolute", "velocity"]
    low: tuple[float, ...]
    high: tuple[float, ...]
    rate_hz: float = Field(gt=0)

    @model_validator(mode="after")
    def _consistent(self) -> ActionSpec:
        if not (len(self.names) == len(self.units) == len(self.low) == len(self.high)):
            raise ValueError("action names, units, low and high must have one entry per dimension")
        if any(lo >= hi for lo, hi in zip(self.low, self.high, strict=True)):
            raise ValueError("every action low must be below its high")
        return self

    @property
    def dim(self) -> int:
        return len(self.names)


class SamplerSpec(_Part):
    """Diffusion sampling: how the model was noised and which step counts it may be asked for."""

    train_steps: int = Field(default=100, gt=0)
    schedule: Literal["squaredcos_cap_v2"] = "squaredcos_cap_v2"
    prediction_type: Literal["sample", "epsilon", "v_prediction"] = "sample"
    default_steps: int = Field(default=10, gt=0)
    temperature: float = Field(default=1.0, ge=0, le=1)
    """Standard deviation of the noise that sampling starts from. Demonstrations made with random pushes hold the
    corrections of pushes, and a chunk drawn at 1, as of policies that do not say, corrects some that never came; 0
    gives the one steady chunk."""

    @model_validator(mode="after")
    def _default_allowed(self) -> SamplerSpec:
        if self.default_steps > self.train_steps:
            raise ValueError("default_steps may not exceed train_steps")
        return self


class BackboneSpec(_Part):
    """A Hugging Face vision-language model in place of the network's own vision and text encoders."""

    name: str
    """Of its directory, wherever that lies, or of its repository on the Hugging Face Hub."""
    revision: str | None = None
    """Commit on the hub; None for a directory."""
    sha256: str
    """Of its configuration, tokenizer, processor and weights, checked on every load."""
    model_type: str
    views: tuple[str, ...]
    """Cameras in the order in which the prompt shows them."""
    prompt: str
    """What stands after the images; `{instruction}` is the task in words."""
    tokens: int = Field(gt=0)
    """Last-hidden tokens handed to the head; shorter prompts are padded with rows of zeros."""
    width: int = Field(gt=0)
    """Dimensions of a token."""
    dtype: Literal["bf16", "fp32"]
    lora_rank: int = Field(default=0, ge=0)
    """0 for a frozen backbone."""
    lora_alpha: int = 0
    lora_targets: tuple[str, ...] = ()
    """Ends of the names of the linear layers that carry an adapter."""


class RangeStats(_Part):
    """Per-dimension minimum and maximum of the training data, mapped to [-1, 1]."""

    minimum: tuple[float, ...]
    maximum: tuple[float, ...]


class MeanStdStats(_Part):
    """Per-channel mean and standard deviation of the training data, mapped to zero mean, unit variance."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


class Normalization(_Part):
    """Statistics that training and serving share; `policy.normalize` is the only code that applies them."""

    state: RangeStats
    action: RangeStats
    sensors: dict[str, MeanStdStats] = {}


class PolicySpec(_Part):
    """A policy's whole contract, as stored in `policy.json` of its bundle."""

    format: Literal["tinyvla-policy/1"] = FORMAT
    name: str
    cameras: tuple[CameraSpec, ...]
    state: StateSpec
    sensors: tuple[SensorSpec, ...] = ()
    instruction: InstructionSpec = InstructionSpec()
    action: ActionSpec
    horizon: int = Field(gt=0)
    """Actions per chunk."""
    n_obs_steps: Literal[1] = 1
    head: Literal["diffusion", "regression"]
    sampler: SamplerSpec | None = None
    """None for a regression head."""
    max_prefix: int = Field(default=0, ge=0)
    """Longest prefix of committed actions the policy was trained to continue."""
    normalization: Normalization
    # Left out where there is none: policies from before there were any keep their hash.
    backbone: BackboneSpec | None = Field(default=None, exclude_if=lambda value: value is None)
    network: dict[str, Any] = {}
    """Arguments of `policy.networks` that rebuild the network; unused by exported runtimes."""
    files: dict[str, str] = {}
    """File name in the bundle -> SHA-256."""
    training: dict[str, Any] = {}
    """How it was trained: command, data hash, code version, seed, auxiliary targets."""
    measured: tuple[dict[str, Any], ...] = ()
    """How it was measured: task, episodes, successes, interval, protocol, one entry per row."""

    @model_validator(mode="after")
    def _consistent(self) -> PolicySpec:
        if (self.head == "diffusion") != (self.sampler is not None):
            raise ValueError("a diffusion head needs a sampler, a regression head has none")
        if self.max_prefix >= self.horizon:
            raise ValueError("max_prefix must be shorter than the horizon")
        names = [camera.name for camera in self.cameras]
        if len(set(names)) != len(names):
            raise ValueError(f"camera names repeat: {names}")
        for part, dim in (("state", self.state.dim), ("action", self.action.dim)):
            stats: RangeStats = getattr(self.normalization, part)
            if not (len(stats.minimum) == len(stats.maximum) == dim):
                raise ValueError(f"normalization.{part} must have {dim} entries")
        if self.backbone is not None and sorted(self.backbone.views) != sorted(names):
            raise ValueError(f"backbone.views {list(self.backbone.views)} are not the cameras {names}")
        missing = {sensor.name for sensor in self.sensors} - set(self.normalization.sensors)
        if missing:
            raise ValueError(f"no normalization for sensors {sorted(missing)}")
        return self

    @property
    def hash(self) -> str:
        """SHA-256 of the canonical JSON, weights included through `files`; results do not make it another policy."""
        document = self.model_dump(mode="json", exclude={"measured"})
        canonical = json.dumps(document, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    @property
    def label(self) -> str:
        """`name@first-12-of-hash`, as replies carry it."""
        return f"{self.name}@{self.hash[:12]}"
