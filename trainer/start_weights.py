"""`--init-from`: fine-tuning starts from the weights and statistics of a checkpoint or a policy bundle."""

from __future__ import annotations

from pathlib import Path

from policy.errors import UsageError
from policy.networks.network import PolicyNetwork
from policy.spec import PolicySpec
from trainer.checkpoint import load_weights
from trainer.contract import check_same_senses

_AUXILIARY = "encoder.auxiliary."
# Of the range of an action: one demonstration that went a little further is no other robot.
_MAY_EXCEED = 0.1


def start_from(directory: Path, network: PolicyNetwork, spec: PolicySpec) -> PolicySpec:
    """Put the weights into `network`; returns `spec` with the statistics that the weights expect.

    Raises:
        UsageError: no weights there, of another shape, or made for other cameras, states, actions or sensors.
    """
    weights, found, targets = load_weights(directory)
    check_same_senses(found, spec, f"--init-from {directory}")
    if _backbone(found) != _backbone(spec):
        raise UsageError(
            f"--init-from {directory}: its backbone is {_backbone(found)}, this run's {_backbone(spec)}"
        )
    _check_range(found, spec, f"--init-from {directory}")
    own = network.state_dict()
    # The head for auxiliary targets is for training only: a bundle lacks it, and one for other targets starts anew.
    fresh = {name: own[name] for name in own if name.startswith(_AUXILIARY)}
    if targets != network.config.auxiliary_targets:
        weights = {name: weights[name] for name in weights if not name.startswith(_AUXILIARY)}
    try:
        network.load_state_dict({**fresh, **weights})
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise UsageError(f"--init-from {directory}: its network has another shape ({first})") from None
    return spec.model_copy(update={"normalization": found.normalization})


def _check_range(found: PolicySpec, spec: PolicySpec, where: str) -> None:
    """Raise UsageError where the data move further than the weights can say: beyond their range a chunk is cut."""
    was, now = found.normalization.action, spec.normalization.action
    for name, low, high, least, most in zip(
        spec.action.names, was.minimum, was.maximum, now.minimum, now.maximum, strict=True
    ):
        beyond = _MAY_EXCEED * (high - low)
        if least < low - beyond or most > high + beyond:
            raise UsageError(
                f"{where}: {name} lies between {low:.3g} and {high:.3g} there, between {least:.3g} and {most:.3g} in "
                "the dataset, and nothing beyond could be learnt; train from the start, or on both datasets"
            )


def _backbone(spec: PolicySpec) -> str:
    """What must be alike for the weights to mean the same."""
    if spec.backbone is None:
        return "none"
    found = spec.backbone
    adapters = "frozen"
    if found.lora_rank:  # they are scaled by alpha over rank
        adapters = f"LoRA {found.lora_rank} with alpha {found.lora_alpha} of {' '.join(found.lora_targets)}"
    return f"{found.model_type} {found.sha256[:12]}, {adapters}"
