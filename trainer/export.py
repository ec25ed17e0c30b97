"""`tinyvla export`: a checkpoint becomes a policy bundle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from policy.errors import UsageError
from policy.export.write_bundle import write_bundle
from service.flags import parse_flags
from trainer.checkpoint import load_checkpoint


@dataclass(frozen=True)
class ExportArgs:
    """Turn a training checkpoint into a policy bundle with ONNX and TorchScript graphs."""

    checkpoint: Path
    """Checkpoint directory, such as runs/train/best."""
    out: Path
    """Bundle directory; a bundle that is already there is replaced."""
    name: str | None = None
    """Name of the policy; default the one it was trained under."""
    temperature: float | None = None
    """Noise that sampling starts from, 0 ... 1; default the training's. 0 draws the same chunk whatever the seed."""
    copy_backbone: bool = False
    """Put the backbone into the bundle; without it the bundle names it, and a server must have it."""
    weights: Annotated[Literal["ema", "model"], tyro.conf.arg(help="averaged or raw weights")] = "ema"


def _without_places(value: Any) -> Any:
    """Absolute paths by their last part: where somebody keeps things is nobody else's business."""
    if isinstance(value, list):
        return [_without_places(item) for item in value]
    if isinstance(value, str) and Path(value).is_absolute():
        return Path(value).name
    return value


def export(args: ExportArgs) -> None:
    """Write and verify the bundle."""
    found = load_checkpoint(args.checkpoint)
    network = found.build(args.weights)
    arguments = found.state["arguments"]
    training = {
        "arguments": {name: _without_places(value) for name, value in arguments.items()},
        "processes": found.state.get("processes", 1),
        "data_sha256": found.state["data_hashes"],
        "code_version": found.state.get("code_version", "unknown"),
        "seed": arguments["seed"],
        "optimizer_steps": found.state["progress"]["steps"],
        "weights": args.weights,
        "auxiliary_targets": list(found.network.auxiliary_targets),
    }
    sampler = found.spec.sampler
    if args.temperature is not None:
        if sampler is None:
            raise UsageError("--temperature: a regression policy draws nothing; leave it out")
        if not 0 <= args.temperature <= 1:
            raise UsageError(f"--temperature must be between 0 and 1, got {args.temperature}")
        sampler = sampler.model_copy(update={"temperature": args.temperature})
    spec = found.spec.model_copy(
        update={"training": training, "name": args.name or found.spec.name, "sampler": sampler}
    )
    spec = write_bundle(args.out, network, spec, with_backbone=args.copy_backbone)
    size = sum(path.stat().st_size for path in args.out.rglob("*")) / 1e6
    print(f"{spec.label} in {args.out}: {size:.2f} MB; eager, ONNX and TorchScript replay the golden pair")
    if spec.backbone is not None and spec.backbone.revision is None and not args.copy_backbone:
        print(
            f"where it is served, --backbone-dir says what {spec.backbone.name} lies in; --copy-backbone brings it"
        )


def main(argv: list[str]) -> int:
    """Entry of `tinyvla export`."""
    export(parse_flags(ExportArgs, argv, "tinyvla export"))
    return 0
