"""How long the parts will take: rates of two cores with nothing beside them, and what the parts so far really took."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from tests.benchmarks.ablations.settings import AblationArgs
from tests.benchmarks.ablations.variants import DEFAULT_STEPS, Variant

_DEMONSTRATION_S = 0.35  # in one process
_FRAMES_PER_DEMONSTRATION = 25
_HELD_OUT = 0.05
# A training sample, two draws, network of the default size; the slope is of a thousand pixels.
_SAMPLE_S, _SAMPLE_PER_KILOPIXEL_S = 0.9e-3, 0.24e-3
# An evaluation episode in one process: where half succeed, it lasts about 300 control steps.
_START_S, _STEPS, _PER_CHUNK = 8.0, 300, 16
_CONTROL_STEP_S, _LOOK_S, _DENOISING_STEP_S = 0.25e-3, 11e-3, 2.2e-3


def collecting_s(args: AblationArgs) -> float:
    """Of one dataset."""
    return _START_S + len(args.tasks) * args.demonstrations * _DEMONSTRATION_S / args.workers


def training_s(args: AblationArgs) -> float:
    """Of one run."""
    kilopixels = len(args.cameras) * args.size**2 / 1e3
    frames = len(args.tasks) * args.demonstrations * _FRAMES_PER_DEMONSTRATION
    samples = args.epochs * frames * (1 - _HELD_OUT)
    return samples * (_SAMPLE_S + _SAMPLE_PER_KILOPIXEL_S * kilopixels)


def evaluating_s(args: AblationArgs, variant: Variant) -> float:
    """Of one row and seed."""
    regression = variant.name == "regression"
    denoising = 1 if regression else variant.ddim_steps or DEFAULT_STEPS
    chunk = len(args.cameras) * _LOOK_S + denoising * _DENOISING_STEP_S
    episode = _STEPS * _CONTROL_STEP_S + _STEPS / _PER_CHUNK * chunk
    return _START_S + len(args.tasks) * args.episodes * episode / args.workers


@dataclass(frozen=True)
class Took:
    """Wall time of a part, or of a piece of one that was interrupted."""

    kind: str
    name: str
    seconds: float
    estimated: float
    finished: bool


def corrections(took: Iterable[Took]) -> dict[str, float]:
    """By kind, how much longer parts take than was estimated; 1 where none is finished."""
    spent: dict[tuple[str, str], float] = defaultdict(float)
    estimated: dict[tuple[str, str], float] = {}
    for one in took:
        spent[one.kind, one.name] += one.seconds
        if one.finished:
            estimated[one.kind, one.name] = one.estimated
    found: dict[str, float] = defaultdict(lambda: 1.0)
    for kind in {kind for kind, _ in estimated}:
        parts = [part for part in estimated if part[0] == kind]
        found[kind] = sum(spent[part] for part in parts) / sum(estimated[part] for part in parts)
    return found
