"""Where a run stands, as every checkpoint stores it, and what may differ when it goes on."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from policy.errors import UsageError
from policy.spec import InstructionSpec, PolicySpec
from trainer.checkpoint import Checkpoint, load_checkpoint
from trainer.settings import TrainArgs, arguments_of, with_defaults

# Anything else decides what a batch holds or how it is learnt from, and a resumed run would silently be another one.
MAY_CHANGE_ON_RESUME = frozenset(
    {
        "resume",
        "out",
        "dataset_dir",
        "init_from",
        "backbone",  # its directory; which model it is stands in the contract
        "epochs",
        "patience",
        "fsdp",
        "threads",
        "save_every",
        "keep_every",
        "feature_cache_gb",
        "log_every",
        "pictures_every",
        "wandb",
        "calibration",
        "evaluate_every",
        "evaluate_tasks",
        "evaluate_episodes",
        "evaluate_workers",
        "device",
    }
)


@dataclass
class Progress:
    """Batches and steps done, the validation losses so far, and the sums of the epoch that is under way."""

    batches: int = 0
    steps: int = 0
    best: float = math.inf
    epochs_without_gain: int = 0
    skipped: int = 0
    consecutive_nan: int = 0
    sums: dict[str, float] = field(
        default_factory=lambda: {"loss": 0.0, "auxiliary": 0.0, "grad": 0.0, "n": 0.0}
    )
    validation: list[float] = field(default_factory=list)

    def note_validation(self, value: float, *, held_out: bool = True) -> bool:
        """Take in an epoch's validation loss (NaN without held-out episodes); whether it is the best so far.

        Where episodes are held out and the loss is NaN, the network has diverged: no epoch is worse.
        """
        self.validation.append(value)
        better = value < self.best or not held_out
        self.best = min(value, self.best) if not math.isnan(value) else self.best
        self.epochs_without_gain = 0 if better else self.epochs_without_gain + 1
        return better


def check_vacant(args: TrainArgs) -> None:
    """Raise UsageError where a new run would write over the one in `--out`; trials may write over trials."""
    # A kill between the two renames of a save leaves the older one only.
    last = next((place for name in ("last", "last.old") if (place := args.out / name).exists()), None)
    if last is None or (args.debug and load_checkpoint(last).state["arguments"].get("debug")):
        return
    remedy = "" if args.debug else "add --resume to go on, or "
    raise UsageError(f"{args.out} already holds a run; {remedy}choose another --out")


def _from_data(spec: PolicySpec) -> PolicySpec:
    """The contract without names, which directories lend it, and sampler: what flags decide is compared with them.

    Without instructions, too, which follow from data and flags: older runs also list those of held-out episodes.
    """
    backbone = None if spec.backbone is None else spec.backbone.model_copy(update={"name": ""})
    return spec.model_copy(
        update={"name": "", "backbone": backbone, "sampler": None, "instruction": InstructionSpec()}
    )


def check_same_run(
    found: Checkpoint,
    where: Path,
    spec: PolicySpec,
    data_hashes: dict[str, str],
    args: TrainArgs,
    processes: int = 1,
) -> None:
    """Raise UsageError unless going on from `found` gives the result of an unbroken run.

    More or fewer processes may go on when together they take as many batches a step as before. What a directory is
    called says nothing about what is in it: the run's, the datasets' and the backbone's may have been renamed.
    """
    before, now = with_defaults(found.state["arguments"]), arguments_of(args)
    if before["init_from"] is not None:  # the statistics are those of its weights
        spec = spec.model_copy(update={"normalization": found.spec.normalization})
    elif now["init_from"] is not None:
        raise UsageError(f"{where} did not begin with --init-from; leave it out, or drop --resume")
    for name in sorted(set(now) - MAY_CHANGE_ON_RESUME - {"grad_accum"}):
        if before[name] != now[name]:
            flag = "--" + name.replace("_", "-")
            raise UsageError(
                f"{where} was trained with {flag} {before[name]}, not {now[name]}; give it as it was, or drop --resume"
            )
    if _from_data(found.spec) != _from_data(spec):
        raise UsageError(f"{where} was trained on other data or with other settings; drop --resume")
    if list(found.state["data_hashes"].values()) != list(data_hashes.values()):
        raise UsageError(f"{where} was trained on other data; give --dataset-dir as it was")
    batches = before["grad_accum"] * found.state.get("processes", 1)
    if batches != now["grad_accum"] * processes:
        raise UsageError(
            f"{where} was trained with {batches} batches a step; --grad-accum {now['grad_accum']} on {processes} "
            f"process{'es' * (processes > 1)} makes {now['grad_accum'] * processes}; give what makes as many, or drop "
            "--resume"
        )
