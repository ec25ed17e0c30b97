"""Are the images red, green and blue in this order? Told by the recorder, by the policy, by the robot's own scene."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from clients.lerobot_v3 import LeRobotDataset
from trainer.cache import FrameCache
from trainer.diagnosis.findings import Fault, Measured, figure
from trainer.diagnosis.probe import probe
from trainer.diagnosis.subject import Subject
from trainer.diagnosis.thumbnails import mean_colour

_FRAMES = 200
_FAR = 0.02  # colours nearer than this do not tell the orders apart
_WORSE = 1.03  # a policy shown blue for red
# MetaWorld's table is brown: red lies 0.12 above blue in every view that shows it, over all tasks and goals.
_REDDER = {"metaworld": 0.03}


def _colours(cache: FrameCache, seed: int) -> list[np.ndarray]:
    frames = np.sort(np.random.default_rng(seed).permutation(cache.num_frames)[:_FRAMES])
    return [mean_colour(cache, frames, view) for view in range(cache.images.shape[1])]


def _nearer_reversed(found: np.ndarray, told: np.ndarray) -> bool:
    """Whether `found` fits `told` much better with red and blue exchanged."""
    as_is, exchanged = np.abs(found - told).max(), np.abs(found[::-1] - told).max()
    return bool(as_is > _FAR and exchanged < as_is / 2)


def _by_recorder(dataset: LeRobotDataset, found: list[np.ndarray]) -> str | None:
    for camera, colour in zip(dataset.facts.cameras, found, strict=True):
        stats = dataset.stats.get(dataset.facts.column_of(camera))
        if stats is not None and _nearer_reversed(colour, np.asarray(stats["mean"]).reshape(3)):
            return f"{camera}'s mean colours are those in meta/stats.json in reverse"
    return None


def _by_scene(dataset: LeRobotDataset, found: list[np.ndarray]) -> str | None:
    redder = _REDDER.get(dataset.facts.robot_type or "")
    for camera, colour in zip(dataset.facts.cameras, found, strict=True):
        if redder is not None and colour[2] - colour[0] > redder:
            return f"{camera} shows {dataset.facts.robot_type}'s scene bluer than red, which it is not"
    return None


def _by_policy(subject: Subject) -> tuple[float, float] | None:
    """(loss as stored, loss with red and blue exchanged) of a trained network."""
    if subject.checkpoint is None:
        return None
    as_is = probe(subject, subject.network).loss
    reverse = probe(subject, subject.network, alter=lambda e: replace(e, images=e.images.flip(-1))).loss
    return as_is, reverse


def colours(subject: Subject) -> tuple[list[Measured], list[Fault]]:
    """Compare every dataset with what is known of its colours, and with the first dataset."""
    rows, tables, evidence = [], [], []
    first = None
    for dataset, cache in zip(subject.data.datasets, subject.data.caches, strict=True):
        found = _colours(cache, subject.seed)
        for camera, colour in zip(dataset.facts.cameras, found, strict=True):
            rows.append((f"{dataset.root.name}: {camera}", *(figure(float(c)) for c in colour)))
        for told in (_by_recorder(dataset, found), _by_scene(dataset, found)):
            if told is not None:
                evidence.append(f"{dataset.root}: {told}")
        first = first or found
        if any(_nearer_reversed(mine, theirs) for mine, theirs in zip(found, first, strict=True)):
            evidence.append(
                f"{dataset.root}: its colours are those of {subject.data.datasets[0].root} in reverse"
            )
    tables.append(Measured("mean colours", ("", "red", "green", "blue"), tuple(rows)))
    losses = _by_policy(subject)
    if losses is not None:
        as_is, reverse = losses
        tables.append(
            Measured(
                "the policy's loss by colour order",
                ("", "loss"),
                (("as stored", figure(as_is)), ("red and blue exchanged", figure(reverse))),
            )
        )
        if as_is > _WORSE * reverse:
            evidence.append(
                f"the policy's loss is {as_is:.4g} as stored and {reverse:.4g} with red and blue exchanged"
            )
    if not evidence:
        return tables, []
    return tables, [
        Fault(
            "swapped-colours",
            "; ".join(evidence),
            "images were read or written by a library that keeps blue first (OpenCV), without conversion",
            "convert to RGB when recording or importing; do not train across both",
        )
    ]
