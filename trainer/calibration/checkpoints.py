"""The checkpoints that a run has kept, each with the validation loss it had."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from policy.errors import UsageError
from policy.spec import PolicySpec
from trainer.settings import with_defaults


@dataclass(frozen=True)
class Kept:
    """A checkpoint on disk."""

    path: Path
    spec: PolicySpec
    data: tuple[str, ...]  # SHA-256 of the datasets trained on
    held_out: tuple[float, int]  # --val-split and --split-seed
    loss: float


def kept_checkpoints(run: Path) -> list[Kept]:
    """`best` and every `epochN`, by falling loss, those of the same step once; `last` may lie within an epoch.

    Raises:
        UsageError: not a run, or none of its checkpoints was validated.
    """
    found: dict[int, Kept] = {}
    for path in sorted(run.glob("epoch*/state.json")) + sorted(run.glob("best/state.json")):
        if path.parent.suffix:  # what a kill left of the writing of one
            continue
        try:
            state = json.loads(path.read_text())
            progress, spec = state["progress"], PolicySpec.model_validate(state["spec"])
            loss, data = float(progress["validation"][-1]), tuple(state["data_hashes"].values())
            arguments = with_defaults(state["arguments"])
            held_out = (float(arguments["val_split"]), int(arguments["split_seed"]))
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise UsageError(f"{path.parent} is no checkpoint of a training run ({error})") from None
        if math.isfinite(loss) and loss > 0:
            found.setdefault(progress["batches"], Kept(path.parent, spec, data, held_out, loss))
    if not found:
        raise UsageError(
            f"{run} keeps no checkpoint with a validation loss; it takes --val-split and --keep-every in training"
        )
    return sorted(found.values(), key=lambda kept: -kept.loss)
