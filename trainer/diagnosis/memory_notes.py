"""What a person should know of a predicted budget, in words."""

from __future__ import annotations

from trainer.diagnosis.memory_model import MB, Budget
from trainer.diagnosis.subject import Subject

_FP32 = 4  # bytes


def notes_on(subject: Subject, own: Budget, later: Budget | None, from_cache: bool) -> tuple[str, ...]:
    """What the columns are of.

    Args:
        own: of the run's own batch size.
        later: of the same, once the feature cache knows everything; None where that is no other.
        from_cache: the feature cache knows everything now.
    """
    return (
        "the peak is less than the sum: gradients come as activations go",
        f"{subject.args.draws} noise draws per sample; the batch size counts samples",
        f"{own.weights / _FP32:.2f} M parameters of {_FP32} bytes are trained; as much for their average and for their "
        "gradients, twice as much for Adam's two moments",
        *_on_backbone(subject, from_cache),
        *_on_cache(subject, later, from_cache),
        quoted_budget(),
    )


def _on_backbone(subject: Subject, from_cache: bool) -> tuple[str, ...]:
    spec = subject.spec.backbone
    if spec is None or from_cache:
        return ()
    whose = f"`frozen` is the {spec.model_type} backbone in {spec.dtype}: no average, gradients or moments"
    if not spec.lora_rank:
        return (f"{whose}, and no activations kept for the backward pass",)
    again = ", which computes its activations again (--gradient-checkpointing)"
    return (
        f"{whose}; its adapters of rank {spec.lora_rank} are among the weights, and the backward pass goes through it"
        f"{again if subject.args.gradient_checkpointing else ''}",
    )


def _on_cache(subject: Subject, later: Budget | None, from_cache: bool) -> tuple[str, ...]:
    place = subject.args.feature_cache
    if from_cache:
        return (
            f"the feature cache {place} knows the samples looked up: a step reads features and does not ask the "
            "backbone, whose weights stay in main memory and are not counted",
        )
    if later is None:
        return ()
    return (
        f"the feature cache {place} lacks samples: predicted is a step of the epoch that fills it, in which the "
        f"backbone is asked; a step that only reads it takes {later.peak:,.0f} MB, the backbone's weights in main "
        "memory not counted",
    )


def bytes_each(weights_mb: float, million_parameters: float) -> float:
    """Bytes that a parameter takes when so many megabytes hold so many of them."""
    return weights_mb * MB / (million_parameters * 1e6)


def quoted_budget() -> str:
    """Why the budget that goes with this kind of policy, 583 + 583 + 1,166 MB for 73 M parameters, cannot be fp32."""
    quoted, parameters = 583.0, 73.0
    right = _FP32 * parameters
    return (
        f"a quoted budget of {quoted:.0f} (weights) + {quoted:.0f} (gradients) + {2 * quoted:,.0f} MB (Adam) for "
        f"{parameters:.0f} M parameters cannot be fp32: it has {bytes_each(quoted, parameters):.0f} bytes a number, "
        f"fp32 has {_FP32}. In fp32 they take {right:.0f} + {right:.0f} + {2 * right:.0f} MB = {4 * right:,.0f} MB; "
        f"{quoted:.0f} MB of fp32 weights are {quoted / _FP32:.0f} M parameters"
    )
