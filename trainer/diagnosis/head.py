"""`tinyvla diagnose head`: does everything the policy perceives reach its actions, and is it made use of?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from policy.networks.network import PolicyNetwork
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


def exchanged(name: str, by: int) -> Alter:
    """Every sample gets the input of the sample `by` rows before it."""
    field = {"images": "images", "state": "state", "instruction": "tokens"}[name]
    return lambda example: replace(example, **{field: getattr(example, field).roll(by, 0)})


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
    moved: dict[str, Example] = {
        "images": replace(example, images=255 - example.images),
        "state": replace(example, state=example.state + 1),
        "instruction": replace(example, tokens=example.tokens.flip(0) % 1000 + 1),
    }
    return {
        name: float(
            (run_pass(network, subject.spec, shown, corruption).output - before).abs().max() / before.std()
        )
        for name, shown in moved.items()
    }


def use(subject: Subject, network: PolicyNetwork) -> dict[str, float]:
    """Input -> by how much of itself the loss rises when every sample gets another sample's.

    On held-out episodes where there are any: what was learnt by heart there is no use of what is seen.
    """
    samples = subject.data.held_out if len(subject.data.held_out) >= 8 else subject.data.train
    true = probe(subject, network, samples).loss

    def loss(name: str) -> float:
        return float(
            np.mean([probe(subject, network, samples, exchanged(name, by)).loss for by in _EXCHANGES])
        )

    return {name: loss(name) / true - 1 for name in ("images", "state", "instruction")}


def _varies(subject: Subject, name: str) -> bool:
    """An input that is the same in every sample cannot be of use."""
    first = None
    for example, _ in batches(subject, subject.data.train, draws=1):
        values = {"images": example.images, "state": example.state, "instruction": example.tokens}[name]
        first = values[:1] if first is None else first
        if not torch.equal(values, first.expand_as(values)):
            return True
    return False


def _unused(subject: Subject, found: Mapping[str, float]) -> list[Fault]:
    faults = []
    for name, rise in found.items():
        # The state alone may be enough, and one task needs no instruction; a policy that does not look is blind.
        if name == "images" and rise < _UNUSED and _varies(subject, name):
            faults.append(
                Fault(
                    "image-never-attended-to",
                    f"showing every sample another sample's images changes the loss by {100 * rise:+.1f} %",
                    "the images do not reach the head, or what they show is also in the state: the policy copies its "
                    "own hand's course",
                    "check that images and actions belong together (diagnose data); more --state-dropout",
                )
            )
    return faults


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
    if subject.checkpoint is not None:
        columns.append("loss rises when exchanged")
        used = use(subject, subject.network)
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
            f"{name}-cut-off",
            f"inverting the {name} moves the output by {moved:.1g} of its scale",
            f"the {name} are computed and never read by the head, or not given to it at all",
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
    return Diagnosis(subject.about, tuple(tables), tuple(faults + _unused(subject, used)), notes)
