"""`--backbone`: which vision-language model a run sees through, as the contract records it."""

from __future__ import annotations

import torch

from policy.networks.backbone.encoder import BackboneEncoder
from policy.networks.backbone.files import find_backbone, seen_backbone
from policy.networks.backbone.model import load_config
from policy.networks.backbone.prompt import PROMPT, Prompt
from policy.networks.network import PolicyNetwork
from policy.spec import BackboneSpec, PolicySpec
from trainer.device import wants_bf16
from trainer.feature_store import DiskFeatures
from trainer.settings import TrainArgs

# Tokens of room for instructions longer than any in the data; what is longer still is cut.
_ROOM = 16


def choose_backbone(args: TrainArgs, spec: PolicySpec, device: torch.device) -> BackboneSpec | None:
    """What the contract says of the backbone of `--backbone`; it is fetched from the hub if this machine lacks it.

    Raises:
        UsageError: no image-text model there, or a prompt without the images.
    """
    if args.backbone is None:
        return None
    files = find_backbone(args.backbone, args.backbone_revision, download=True)
    config = load_config(files)
    cameras = spec.cameras
    prompt = Prompt(files.directory, config, range(len(cameras)), PROMPT, None)
    texts = {text for texts in spec.instruction.by_task.values() for text in texts}
    longest = max(prompt.length(text, cameras[0].height, cameras[0].width) for text in sorted(texts))
    wide = (
        wants_bf16(args.precision, device) if args.backbone_dtype == "auto" else args.backbone_dtype == "bf16"
    )
    return BackboneSpec(
        name=files.name,
        revision=files.revision,
        sha256=files.sha256(),
        model_type=config.model_type,
        views=tuple(camera.name for camera in cameras),
        prompt=PROMPT,
        tokens=longest + _ROOM,
        width=config.get_text_config().hidden_size,
        dtype="bf16" if wide else "fp32",
        lora_rank=args.lora_rank,
        lora_alpha=args.lora_alpha if args.lora_rank else 0,
        lora_targets=args.lora_targets if args.lora_rank else (),
    )


def backbone_directory(spec: PolicySpec) -> str | None:
    """Where a checkpoint finds the run's backbone on this machine; its contract, which travels, does not say."""
    seen = None if spec.backbone is None else seen_backbone(spec.backbone.sha256)
    return None if seen is None else str(seen)


def prepare_backbone(args: TrainArgs, network: PolicyNetwork) -> str:
    """Set the backbone up for training; what a person should know of it, or nothing without one."""
    encoder = network.encoder
    if not isinstance(encoder, BackboneEncoder):
        return ""
    backbone = encoder.backbone
    backbone.store = None
    if args.feature_cache is not None:
        backbone.store = DiskFeatures(args.feature_cache, backbone.spec, int(args.feature_cache_gb * 1e9))
    if args.gradient_checkpointing:
        backbone.checkpoint_gradients()
    adapted = sum(parameter.numel() for parameter in encoder.lora.parameters())
    how = f"LoRA of rank {args.lora_rank}, {adapted / 1e6:.2f} M of the parameters" if adapted else "frozen"
    return (
        f"sees through {backbone.spec.name} ({backbone.spec.model_type}, {backbone.parameters / 1e6:.1f} M parameters, "
        f"{backbone.spec.dtype}), {how}; views in order: {', '.join(backbone.spec.views)}"
    )


def finish_backbone(network: PolicyNetwork) -> str:
    """Write what the feature cache still holds in memory; what became of its look-ups, or nothing without one."""
    encoder = network.encoder
    if not isinstance(encoder, BackboneEncoder) or not isinstance(encoder.backbone.store, DiskFeatures):
        return ""
    encoder.backbone.store.flush()
    return encoder.backbone.store.line()
