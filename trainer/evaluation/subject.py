"""The policy under evaluation, and the cameras it needs."""

from __future__ import annotations

from pathlib import Path

from clients.robots import metaworld_sim
from policy.bundle import load_bundle
from policy.checksums import file_hash
from policy.errors import UsageError
from policy.predictor import Predictor
from policy.spec import PolicySpec
from trainer.evaluation.settings import EvaluateArgs


def load_policy(args: EvaluateArgs) -> Predictor:
    """The policy of `--bundle` or `--checkpoint`, on one thread."""
    if args.checkpoint is not None:
        from policy.loaded import LoadedPolicy
        from policy.runtimes.eager import EagerBackend
        from trainer.checkpoint import load_checkpoint

        found = load_checkpoint(args.checkpoint)
        return LoadedPolicy(found.spec, EagerBackend(found.build(args.weights), "cpu", threads=1))
    return load_bundle(args.bundle or default_bundle(), args.runtime, threads=1)


def written(checkpoint: Path | None) -> int | None:
    """When a checkpoint's weights were written; the run that it belongs to may replace it."""
    if checkpoint is None:
        return None
    from trainer.checkpoint import find_checkpoint

    return (find_checkpoint(checkpoint) / "ema.safetensors").stat().st_mtime_ns


def policy_identity(args: EvaluateArgs, label: str) -> dict[str, object]:
    """What tells the policy under evaluation from any other.

    The checkpoints of a run share their contract, and so their label.
    """
    if args.checkpoint is None:
        return {"policy": label}
    from trainer.checkpoint import find_checkpoint

    return {
        "policy": label,
        "weights": file_hash(find_checkpoint(args.checkpoint) / f"{args.weights}.safetensors"),
    }


def check_unchanged(args: EvaluateArgs, identity: dict[str, object]) -> None:
    """Raise UsageError where the checkpoint has become another one since its `policy_identity` was taken."""
    if policy_identity(args, str(identity["policy"])) != identity:
        raise UsageError(
            f"{args.checkpoint} was written anew while it was evaluated, and the results under {args.out} are of more "
            "than one network; evaluate one that stays, such as `epoch3` of --keep-every, into another --out"
        )


def default_bundle() -> Path:
    """The bundle shipped with the repository."""
    return Path(__file__).resolve().parents[2] / "bundles" / "metaworld8"


def camera_setup(spec: PolicySpec) -> tuple[tuple[str, ...], int]:
    """Cameras and image size that the simulator must render for a policy."""
    if tuple(spec.state.names) != metaworld_sim.STATE_NAMES or spec.action.dim != len(
        metaworld_sim.ACTION_NAMES
    ):
        raise UsageError(
            f"policy {spec.name} is not for MetaWorld: its state is {', '.join(spec.state.names)}"
        )
    return tuple(camera.name for camera in spec.cameras), max(camera.height for camera in spec.cameras)
