"""A loaded backbone: images and text in, its last hidden tokens out."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from policy.errors import UsageError
from policy.networks.backbone.adapters import Adapters
from policy.networks.backbone.files import BackboneFiles, find_recorded
from policy.networks.backbone.prompt import Prompt
from policy.spec import BackboneSpec, PolicySpec
from policy.text import from_bytes

_DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


class FeatureStore(Protocol):
    """Remembers what a frozen backbone made of an observation."""

    def get(self, images: np.ndarray, instruction: str) -> np.ndarray | None:
        """uint8 [V, H, W, 3] and the text -> tokens [T, W], or None where they are not known."""
        ...

    def put(self, images: np.ndarray, instruction: str, features: np.ndarray) -> np.ndarray:
        """Remember tokens [T, W]; returns what `get` will give for them."""
        ...


def load_config(files: BackboneFiles) -> Any:
    """The configuration of an image-text model.

    Raises:
        UsageError: transformers is not installed, or what it finds there is another kind of model.
    """
    try:
        from transformers import AutoConfig
        from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
    except ImportError:
        raise UsageError(
            "backbones need transformers; run: pip install -c constraints.txt -e '.[vlm]'"
        ) from None
    try:
        config = AutoConfig.from_pretrained(
            str(files.directory), local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UsageError(f"backbone {files.name}: {reason}") from error
    if type(config) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        raise UsageError(f"backbone {files.name}: {config.model_type} is no image-text model")
    return config


class LoadedModel:
    """A frozen model on one device, and the places for adapters in it, which whoever looks through it puts in first."""

    def __init__(self, spec: BackboneSpec, files: BackboneFiles, config: Any) -> None:
        from transformers import AutoModelForImageTextToText

        _no_progress_bars()
        try:
            loaded: Any = AutoModelForImageTextToText.from_pretrained(
                str(files.directory), config=config, dtype=_DTYPES[spec.dtype], local_files_only=True,
                use_safetensors=True, output_loading_info=True,
            )  # fmt: skip
        except (OSError, ValueError, RuntimeError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UsageError(f"backbone {files.name}: its weights cannot be loaded: {reason}") from error
        whole, found = loaded
        if found["missing_keys"]:
            first = sorted(found["missing_keys"])[0]
            raise UsageError(f"backbone {files.name}: its weights are incomplete, {first} is missing")
        self.module = whole.base_model.eval().requires_grad_(False)  # without the layer that names words
        self.parameters = sum(parameter.numel() for parameter in self.module.parameters())
        self.adapters = Adapters(self.module, spec) if spec.lora_rank else None
        self.lock = threading.Lock()


class Backbone:
    """What a policy sees through: its prompt, and a model shared with every policy whose weights are the same.

    Safe to call from several threads. It is no `nn.Module` on purpose: what holds it neither copies, averages, stores
    nor trains its weights.
    """

    def __init__(self, spec: BackboneSpec, cameras: tuple[str, ...], files: BackboneFiles) -> None:
        config = load_config(files)
        order = [cameras.index(view) for view in spec.views]
        self.spec = spec
        self.store: FeatureStore | None = None
        self.checkpointing = False
        self.prompt = Prompt(files.directory, config, order, spec.prompt, spec.tokens)
        self._dtype = _DTYPES[spec.dtype]
        self._loaded = _load_once(spec, files, config)
        self.model, self.adapters = self._loaded.module, self._loaded.adapters
        self.parameters = self._loaded.parameters

    def __deepcopy__(self, memo: dict[int, Any]) -> Backbone:
        return self

    def checkpoint_gradients(self) -> None:
        """Keep no activations for the backward pass; they are computed again, layer by layer."""
        self.model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
        self.checkpointing = True

    def look(self, images: Tensor, tokens: Tensor, adapters: Mapping[str, Tensor]) -> Tensor:
        """uint8 [B, V, H, W, 3] and texts as bytes [B, L] -> last hidden tokens, float32 [B, T, W] on their device.

        Rows of zeros are padding. A backward pass must come before another network looks.
        """
        pictures = images.cpu().numpy()
        texts = [from_bytes(row) for row in tokens.cpu().numpy()]
        if self.store is None or adapters:
            return self._run(pictures, texts, images.device, adapters)
        known = [self.store.get(picture, text) for picture, text in zip(pictures, texts, strict=True)]
        new = [row for row, found in enumerate(known) if found is None]
        if new:
            made = (
                self._run(pictures[new], [texts[row] for row in new], images.device, adapters).cpu().numpy()
            )
            for row, features in zip(new, made, strict=True):
                known[row] = self.store.put(pictures[row], texts[row], features)
        return torch.stack([torch.from_numpy(row) for row in known if row is not None]).to(images.device)

    def _run(
        self, images: np.ndarray, texts: list[str], device: torch.device, adapters: Mapping[str, Tensor]
    ) -> Tensor:
        inputs = {
            name: value.to(device, self._dtype) if value.is_floating_point() else value.to(device)
            for name, value in self.prompt.inputs(images, texts).items()
        }
        learning = bool(adapters) and torch.is_grad_enabled()
        with self._loaded.lock, torch.autocast(device.type, enabled=False):
            if self.adapters is not None:
                self.adapters.put_in(adapters)
            if next(self.model.parameters()).device != device:
                with torch.inference_mode(False):  # the weights may be needed for training later
                    self.model.to(device)
            self.model.train(learning and self.checkpointing)
            with contextlib.nullcontext() if learning else torch.no_grad():
                hidden = self.model(**inputs, use_cache=False).last_hidden_state
        hidden = hidden.float() * inputs["attention_mask"].unsqueeze(-1)
        missing = self.spec.tokens - hidden.shape[1]
        return torch.nn.functional.pad(hidden, (0, 0, 0, missing))


def _no_progress_bars() -> None:
    from transformers.utils import logging

    logging.disable_progress_bar()


# While somebody holds them. Policies trained on other tasks differ in their prompts, and share the model all the same.
_BACKBONES: weakref.WeakValueDictionary[str, Backbone] = weakref.WeakValueDictionary()
_MODELS: weakref.WeakValueDictionary[str, LoadedModel] = weakref.WeakValueDictionary()
_LOADING = threading.Lock()


def _load_once(spec: BackboneSpec, files: BackboneFiles, config: Any) -> LoadedModel:
    """The model in `files`, whose hash is the spec's; one for all that have the same places for adapters in it."""
    key = f"{spec.sha256} {spec.dtype} {spec.lora_rank} {spec.lora_alpha} {spec.lora_targets}"
    known = _MODELS.get(key)
    if known is None:
        # Loading draws random numbers, and a run must not depend on whether somebody loaded it before.
        with torch.random.fork_rng():
            known = _MODELS[key] = LoadedModel(spec, files, config)
    return known


def open_backbone(spec: PolicySpec, copied: Path | None = None) -> Backbone:
    """The backbone of a policy.

    Args:
        copied: where a bundle would keep its own copy.

    Raises:
        UsageError: it is not on this machine, or is not the one the policy was trained with.
    """
    wanted = spec.backbone
    assert wanted is not None
    cameras = tuple(camera.name for camera in spec.cameras)
    key = f"{wanted.model_dump_json()} {cameras}"
    with _LOADING:
        known = _BACKBONES.get(key)
        if known is None:
            if copied is not None and copied.is_dir():
                files = BackboneFiles(str(copied), None, copied)
                if files.sha256() != wanted.sha256:
                    raise UsageError(
                        f"backbone {copied} is not the one that this policy was trained with (SHA-256 differs)"
                    )
            else:
                files = find_recorded(wanted)
            known = _BACKBONES[key] = Backbone(wanted, cameras, files)
        return known
