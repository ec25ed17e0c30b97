"""A policy's vision-language backbone where memory is predicted or measured: it does what it does in the run."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from torch import Tensor

from policy.networks.backbone.encoder import BackboneEncoder
from policy.networks.backbone.model import Backbone, open_backbone
from policy.networks.backbone.prompt import Prompt
from policy.networks.network import PolicyNetwork
from policy.spec import BackboneSpec, PolicySpec
from policy.text import from_bytes
from trainer.diagnosis.subject import Subject
from trainer.feature_store import DiskFeatures
from trainer.loader import Samples, spread_rows

_LOOKED_UP = 8  # samples, of those trained on and of those held out


def backbone_of(network: PolicyNetwork) -> Backbone | None:
    """What the network sees through; None for eyes of its own."""
    return network.encoder.backbone if isinstance(network.encoder, BackboneEncoder) else None


def frozen_tensors(backbone: Backbone) -> list[Tensor]:
    """The model's own weights and buffers; adapters are the network's."""
    named = [*backbone.model.named_parameters(), *backbone.model.named_buffers()]
    return [tensor for name, tensor in named if ".lora_" not in name]


@contextmanager
def loaded_once(spec: PolicySpec) -> Iterator[None]:
    """Keep a policy's backbone in memory, for all that look through it."""
    held = None if spec.backbone is None else open_backbone(spec)
    yield
    del held


def see_as_in_training(
    network: PolicyNetwork, subject: Subject, from_cache: bool, seen: Callable[[Tensor], Tensor]
) -> Backbone | None:
    """Give the network a backbone of its own, on the same weights, that does what the run's does; returns it.

    Args:
        from_cache: every observation's features are in the feature cache.
        seen: what the processor makes of a batch's images and texts goes through it. Pixels lie in NumPy's memory, of
            which torch's allocator knows nothing.
    """
    encoder = network.encoder
    if not isinstance(encoder, BackboneEncoder):
        return None
    backbone = copy.copy(encoder.backbone)
    backbone.prompt = _SeenPrompt(backbone.prompt, seen)  # type: ignore[assignment]
    backbone.store = _AnyFeatures(backbone.spec) if from_cache else None
    if subject.args.gradient_checkpointing:
        backbone.checkpoint_gradients()
    if backbone.adapters is not None:
        backbone.adapters.put_in(dict(encoder.lora.items()))
    encoder.backbone = backbone
    return backbone


class _SeenPrompt:
    def __init__(self, prompt: Prompt, seen: Callable[[Tensor], Tensor]) -> None:
        self._prompt, self._seen = prompt, seen

    def inputs(self, images: np.ndarray, instructions: Sequence[str]) -> dict[str, Tensor]:
        return {name: self._seen(value) for name, value in self._prompt.inputs(images, instructions).items()}


class _AnyFeatures:
    """A feature cache that knows every observation; its values do not matter."""

    def __init__(self, spec: BackboneSpec) -> None:
        self._shape = (spec.tokens, spec.width)

    def get(self, images: np.ndarray, instruction: str) -> np.ndarray | None:
        return np.ones(self._shape, np.float32)

    def put(self, images: np.ndarray, instruction: str, features: np.ndarray) -> np.ndarray:
        return features


def reads_features(subject: Subject) -> bool:
    """Whether the run's feature cache already knows samples spread over all of its data."""
    args, spec = subject.args, subject.spec.backbone
    if spec is None or args.feature_cache is None or not args.feature_cache.is_dir():
        return False
    store = DiskFeatures(args.feature_cache, spec, int(args.feature_cache_gb * 1e9))
    return all(_knows(store, samples) for samples in (subject.data.train, subject.data.held_out))


def _knows(store: DiskFeatures, samples: Samples) -> bool:
    if not len(samples):
        return True
    batch = samples.batch(spread_rows(len(samples), _LOOKED_UP))
    looked_up = zip(batch.images, batch.tokens, strict=True)
    return all(store.get(images, from_bytes(tokens)) is not None for images, tokens in looked_up)
