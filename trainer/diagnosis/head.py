"""`tinyvla diagnose head`: does everything the policy perceives reach its actions, and is it made use of?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from policy.networks.network import PolicyNetwork
from policy.spec import PolicySpec
from trainer.diagnosis.blocks import gradient_norms
from trainer.diagnosis.findings import Diagnosis, Fault, Measured, figure
from trainer.diagnosis.probe import Alter, batches, probe
from trainer.diagnosis.subject import Subject
from trainer.losses import Example, compute_losses, run_pass

# Showing another sample's images must cost at least this share of the loss, or they are not looked at; a policy that
# looks loses several times its loss.
_UNUSED = 0.05
_EXCHANGES = (1, 2, 5)  # rows further on in the batch
_REACHED = 1e-6  # of the output's scale
_DEAD = 1e-12
_WAKE = 0.03


Change = Callable[[Tensor], Tensor]
_FIELDS = {"images": "images", "state": "state", "instruction": "tokens"}


def inputs_of(spec: PolicySpec) -> tuple[str, ...]:
    """Everything that the policy perceives, by name."""
    return (*_FIELDS, *(f"sensor {sensor.name}" for sensor in spec.sensors))


def with_input(name: str, spec: PolicySpec, example: Example, change: Change) -> Example:
    """The example with one of its inputs changed; of a sensor the window and the mask."""
    if name in _FIELDS:
        changed: dict[str, Any] = {_FIELDS[name]: change(getattr(example, _FIELDS[name]))}
        return replace(example, **changed)
    first = 2 * (inputs_of(spec).index(name) - len(_FIELDS))
    parts = list(example.sensors)
    parts[first : first + 2] = [change(part) for part in parts[first : first + 2]]
    return replace(example, sensors=tuple(parts))


def _inverted_sensor(part: Tensor) -> Tensor:
    """Another window [B, T, C]; of the masks [B, T] only that of a sensor that is absent, so that there is one."""
    if part.ndim == 3:
        return 1 - part
    return torch.where(part.amax(1, keepdim=True) > 0, part, torch.ones_like(part))


def exchanged(name: str, spec: PolicySpec, by: int) -> Alter:
    """Every sample gets the input of the sample `by` rows before it."""
    return lambda example: with_input(name, spec, example, lambda part: part.roll(by, 0))


def woken(network: PolicyNetwork) -> PolicyNetwork:
    """Layers that start at zero are moved off it: what is behind them can be reached then."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            noise = torch.randn(parameter.shape, generator=generator).to(parameter.device)
            parameter.add_(_WAKE * noise)
    return network.eval()


@torch.no_grad()
def reach(subject: Subject, network: PolicyNetwork) -> dict[str, float]:
    """Input -> how much the output moves when the input is inverted, as a share of the output's scale."""
    example, corruption = next(iter(batches(subject, subject.data.train)))
    before = run_pass(network, subject.spec, example, corruption).output
    changes: dict[str, Change] = {
        "images": lambda part: 255 - part,
        "state": lambda part: part + 1,
        "instruction": lambda part: part.flip(0) % 1000 + 1,
    }
    moved = {}
    for name in inputs_of(subject.spec):
        shown = with_input(name, subject.spec, example, changes.get(name, _inverted_sensor))
        after = run_pass(network, subject.spec, shown, corruption).output
        moved[name] = float((after - before).abs().max() / before.std())
    return moved


def use(subject: Subject, network: PolicyNetwork) -> dict[str, float]:
    """Input -> by how much of itself the loss rises when every sample gets another sample's.

    On held-out episodes where there are any: what was learnt by heart there is no use of what is seen.
    """
    samples = subject.data.held_out if len(subject.data.held_out) >= 8 else subject.data.train
    true = probe(subject, network, samples).loss

    def loss(name: str) -> float:
        return float(
            np.mean(
                [
                    probe(subject, network, samples, exchanged(name, subject.spec, by)).loss
                    for by in _EXCHANGES
                ]
            )
        )

    return {name: loss(name) / true - 1 for name in inputs_of(subject.spec)}


def _images_vary(subject: Subject) -> bool:
    """Images that are the same in every sample cannot be of use."""
    first = None
    for example, _ in batches(subject, subject.data.train, draws=1):
        first = example.images[:1] if first is None else first
        if not torch.equal(example.images, first.expand_as(example.images)):
            return True
    return False


def _blind(subject: Subject, rise: float) -> list[Fault]:
    """The state may be enough and one task needs no instruction; but a policy that does not look is blind."""
    if rise >= _UNUSED or not _images_vary(subject):
        return []
    return [
        Fault(
            "image-never-attended-to",
            f"showing every sample another sample's images changes the loss by {100 * rise:+.1f} %",
            "the images do not reach the head, or what they show is also in the state: the policy copies its "
            "own hand's course",
            "check that images and actions belong together (diagnose data); more --state-dropout",
        )
    ]


def _gradients(subject: Subject, network: PolicyNetwork) -> dict[str, float]:
    example, corruption = next(iter(batches(subject, subject.data.train)))
    found = compute_losses(network, subject.spec, example, corruption)
    (found.action + subject.args.auxiliary_weight * found.auxiliary).backward()
    norms = gradient_norms(network)
    network.zero_grad(set_to_none=True)
    if not subject.auxiliary.names:  # nothing to learn there
        norms.pop("encoder.auxiliary", None)
    return norms


def diagnose(subject: Subject) -> Diagnosis:
    """Look at the wiring in a woken fresh network, and at the use made of it in a trained one."""
    network = woken(subject.fresh())
    reached = reach(subject, network)
    norms = _gradients(subject, network)
    columns, used = ["input", "moves the output by"], {}
    blind: list[Fault] = []
    if subject.checkpoint is not None:
        columns.append("loss rises when exchanged")
        used = use(subject, subject.network)
        blind = _blind(subject, used["images"])
    rows = []
    for name, moved in reached.items():
        row = [name, figure(moved)]
        if used:
            row.append(f"{100 * used[name]:+.1f} %")
        rows.append(tuple(row))
    tables = [
        Measured("what reaches the actions", tuple(columns), tuple(rows)),
        Measured(
            "gradient norm by block, every branch open",
            ("block", "norm"),
            tuple((name, figure(norm)) for name, norm in norms.items()),
        ),
    ]
    faults = [
        Fault(
            f"{name.partition(' ')[0]}-cut-off",
            f"inverting the {name} moves the output by {moved:.1g} of its scale",
            f"the head never reads the encoding of the {name}, or is not given it at all",
            "policy/networks/encoder.py: what `fuse` concatenates must hold them",
        )
        for name, moved in reached.items()
        if moved < _REACHED
    ]
    dead = [name for name, norm in norms.items() if norm < _DEAD]
    if dead:
        faults.append(
            Fault(
                "dead-block",
                f"no gradient reaches {', '.join(dead)}",
                "the block's output is not used, or is detached",
                "look at where its output goes; frozen parts need requires_grad=False",
            )
        )
    notes: tuple[str, ...] = ()
    if subject.checkpoint is None:
        notes = ("whether the images are made use of shows in a trained network: give a run",)
    return Diagnosis(subject.about, tuple(tables), tuple(faults + blind), notes)
