"""`tinyvla diagnose loss-explosion`: does training start well, and is its learning rate one it survives?"""

from __future__ import annotations

import math

from policy.networks.network import PolicyNetwork
from trainer.diagnosis.blocks import gradient_norms
from trainer.diagnosis.findings import Diagnosis, Fault, Measured, figure
from trainer.diagnosis.loss_values import logged_table
from trainer.diagnosis.probe import batches, probe
from trainer.diagnosis.rate_trial import judge, run_trial, trial_batches
from trainer.diagnosis.subject import Subject
from trainer.losses import compute_losses

_STEPS = 24
_LADDER = (0.1, 0.3, 1.0, 3.0, 10.0)  # times the run's own rate
# A fresh network should say nothing; what it says adds its own variance to the loss.
_LOUD = 0.25
_ROSE = 2.0  # a logged loss this many times its own minimum


def first_gradients(subject: Subject, network: PolicyNetwork) -> Measured:
    """Norms by block on one batch."""
    example, corruption = next(iter(batches(subject, subject.data.train)))
    found = compute_losses(network, subject.spec, example, corruption)
    (found.action + subject.args.auxiliary_weight * found.auxiliary).backward()
    rows = tuple((name, figure(norm)) for name, norm in gradient_norms(network).items())
    network.zero_grad(set_to_none=True)
    return Measured("gradient norm by block", ("block", "norm"), rows)


def _initialisation(subject: Subject) -> tuple[list[Measured], list[Fault]]:
    start = probe(subject, subject.fresh().eval())
    said, wanted = (math.sqrt(float((v[start.counted] ** 2).mean())) for v in (start.output, start.target))
    table = Measured(
        "a fresh network",
        ("", "value"),
        (
            ("scale of its output (RMS)", figure(said)),
            ("scale of its target (RMS)", figure(wanted)),
            ("loss", figure(start.loss)),
            ("loss of saying zero", figure(start.target_power)),
        ),
    )
    faults = []
    if said > _LOUD * wanted or start.loss > 1.1 * start.target_power:
        faults.append(
            Fault(
                "loud-initialisation",
                f"a fresh network's output has {said / wanted:.2g} of its target's scale and a loss of "
                f"{start.loss:.3g}, where saying nothing would get {start.target_power:.3g}",
                "the output layer and the residual branches start at PyTorch's default instead of zero",
                "policy.networks.init: Xavier with gain 0.5, and zero_init on the last layer of every branch",
            )
        )
    return [table], faults


def _rates(subject: Subject) -> tuple[list[Measured], list[Fault]]:
    rate = subject.args.lr
    trained, judged = trial_batches(subject, _STEPS)
    trials = [run_trial(subject, subject.fresh(), trained, judged, rate * times) for times in _LADDER]
    unstable = judge(trials)
    rows = tuple(
        (
            f"{trial.rate:.1e}" + (" (this run's)" if trial.rate == rate else ""),
            figure(trial.highest),
            figure(trial.after),
            figure(trial.largest_gradient),
            "unstable" if unstable[trial.rate] else "stable",
        )
        for trial in trials
    )
    size = len(trained[0][0].state)
    table = Measured(
        f"{_STEPS} steps from the same start, {size} samples a batch, at other learning rates",
        ("learning rate", "highest loss", "second half", "largest gradient", ""),
        rows,
    )
    faults = []
    if unstable[rate]:
        own = next(trial for trial in trials if trial.rate == rate)
        stable = [trial for trial in trials if not unstable[trial.rate]]
        best = min(stable or trials[:1], key=lambda trial: trial.after)
        faults.append(
            Fault(
                "learning-rate",
                f"in {_STEPS} steps at {rate:.1e} the loss peaks at {own.highest:.3g} and stays around "
                f"{own.after:.3g}; at {best.rate:.1e} it peaks at {best.highest:.3g} and stays around {best.after:.3g}",
                "the learning rate is above what this network survives; wider networks need smaller ones",
                f"--lr {best.rate:.1e}, or a longer warm-up (--warmup-ratio)",
            )
        )
    return [table], faults


def _logged(subject: Subject) -> tuple[list[Measured], list[Fault]]:
    losses = [epoch.loss for epoch in subject.epochs]
    if not losses:
        return [], []
    faults = []
    lowest = min(losses)
    if losses[-1] > _ROSE * lowest:
        faults.append(
            Fault(
                "loss-rose",
                f"the logged loss rose from {lowest:.4g} to {losses[-1]:.4g}",
                "the run diverged: too high a learning rate, or data that changed under it",
                "go on from the best checkpoint with a tenth of the learning rate",
            )
        )
    if subject.epochs[-1].skipped:
        faults.append(
            Fault(
                "not-finite",
                f"{subject.epochs[-1].skipped} batches were skipped because their loss or gradient was not finite",
                "a learning rate that is too high, or values in the data that are not finite",
                "see diagnose data; else a tenth of the learning rate",
            )
        )
    return [logged_table(subject.epochs)], faults


def diagnose(subject: Subject) -> Diagnosis:
    """Look at the start, at short trainings, and at the run's own log where there is one."""
    tables, faults = _initialisation(subject)
    tables.append(first_gradients(subject, subject.fresh()))
    for more, wrong in (_rates(subject), _logged(subject)):
        tables += more
        faults += wrong
    return Diagnosis(subject.about, tuple(tables), tuple(faults))
