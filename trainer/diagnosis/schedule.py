"""`tinyvla diagnose schedule`: does the noise schedule fit these actions, and does the sampler's clip cut them?"""

from __future__ import annotations

import numpy as np

from policy.normalize import from_unit
from policy.sampler import draw_chunks
from policy.schedule import alphas_cumprod
from policy.spec import PolicySpec
from trainer.diagnosis.action_statistics import normalised_actions
from trainer.diagnosis.findings import Diagnosis, Fault, Measured, figure
from trainer.diagnosis.subject import Subject

_SHOWN = 6  # timesteps
_SIGNAL_LEFT = 0.01
_CUT = 0.001  # of the actions may lie outside what the sampler can say
_LARGE = 3.0


def noise_table(spec: PolicySpec, actions: np.ndarray) -> Measured:
    """Signal, noise and the spread of the network's input at some timesteps; actions [N, A], normalised."""
    assert spec.sampler is not None
    alphas = alphas_cumprod(spec.sampler.train_steps)
    power = float((actions**2).mean())
    rows = []
    for t in np.linspace(0, len(alphas) - 1, min(_SHOWN, len(alphas))).round().astype(int):
        ratio = alphas[t] * power / (1 - alphas[t])
        spread = np.sqrt(alphas[t] * power + 1 - alphas[t])
        rows.append(
            (str(t), figure(alphas[t] ** 0.5), figure((1 - alphas[t]) ** 0.5), figure(ratio), figure(spread))
        )
    columns = ("timestep", "signal kept", "noise added", "signal to noise", "RMS of the input")
    return Measured("noise schedule, with these actions", columns, tuple(rows))


def cost_of_the_clip(spec: PolicySpec, actions: np.ndarray) -> np.ndarray:
    """RMS error, per action in physical units, of sampling with a network that is always right; actions [N, A]."""
    chunk = actions[:, None, :]
    drawn = draw_chunks(
        lambda x, timestep, length: _right(spec, chunk, x, int(timestep[0])),
        spec.sampler, "ddim", spec.sampler.default_steps if spec.sampler else 1,
        [np.random.default_rng(row) for row in range(len(chunk))], [None] * len(chunk), 1, chunk.shape[2],
    )  # fmt: skip
    stats = spec.normalization.action
    error = from_unit(drawn[:, 0], stats) - from_unit(actions, stats)
    return np.sqrt((error**2).mean(0))


def _right(spec: PolicySpec, clean: np.ndarray, noisy: np.ndarray, timestep: int) -> np.ndarray:
    """What a perfect network answers, whatever its prediction type."""
    assert spec.sampler is not None
    alpha = alphas_cumprod(spec.sampler.train_steps)[timestep]
    noise = (noisy - alpha**0.5 * clean) / (1 - alpha) ** 0.5
    kind = spec.sampler.prediction_type
    if kind == "sample":
        return clean.astype(np.float32)
    return (noise if kind == "epsilon" else alpha**0.5 * noise - (1 - alpha) ** 0.5 * clean).astype(
        np.float32
    )


def cut_share(actions: np.ndarray) -> np.ndarray:
    """Per dimension the share of normalised actions [N, A] outside [-1, 1]."""
    return (np.abs(actions) > 1 + 1e-4).mean(0)


def clip_fault(spec: PolicySpec, actions: np.ndarray) -> Fault | None:
    """The sampler says nothing outside [-1, 1]: actions normalised beyond that are cut off."""
    cut = cut_share(actions)
    if cut.max() <= _CUT:
        return None
    told = ", ".join(f"{n} {100 * c:.1f} %" for n, c in zip(spec.action.names, cut, strict=True) if c > _CUT)
    return Fault(
        "cut-by-the-sampler",
        f"normalised actions lie outside [-1, 1], where the sampler cannot go: {told}",
        "z-scored actions (mean and standard deviation) with a sampler that clips at 1, or statistics of other data",
        "normalise by the minimum and maximum of this data, as tinyvla train does; train again",
    )


def diagnose(subject: Subject) -> Diagnosis:
    """Statistics come from the training episodes, the schedule and the normalisation from the contract."""
    spec = subject.spec
    actions = normalised_actions(subject)
    if spec.sampler is None:
        note = "a regression policy has no noise schedule, and nothing clips what it says"
        return Diagnosis(subject.about, (), (), (note,))
    few = actions[np.random.default_rng(subject.seed).permutation(len(actions))[: subject.samples]]
    cost = cost_of_the_clip(spec, few)
    tables = [
        noise_table(spec, actions),
        Measured(
            "sampling with a network that is always right",
            ("action", "outside [-1, 1]", "RMS error"),
            tuple(
                (f"{name} [{unit}]", f"{100 * share:.2f} %", figure(error))
                for name, unit, share, error in zip(
                    spec.action.names, spec.action.units, cut_share(actions), cost, strict=True
                )
            ),
        ),
    ]
    faults = []
    left = alphas_cumprod(spec.sampler.train_steps)[-1]
    if left > _SIGNAL_LEFT:
        faults.append(
            Fault(
                "signal-left",
                f"at the noisiest level {left:.3f} of the signal's variance is left; sampling starts from none",
                "too few training timesteps for this schedule",
                "--diffusion-timesteps 100",
            )
        )
    scale = float(np.sqrt((actions**2).mean()))
    clip = clip_fault(spec, actions)
    if scale > _LARGE:
        faults.append(
            Fault(
                "not-normalised",
                f"normalised actions have an RMS of {scale:.3g}: unit noise does not cover them at any timestep",
                "the actions reach the network in physical units",
                "statistics of this data in the contract; train again",
            )
        )
    elif clip is not None:
        faults.append(clip)
    return Diagnosis(subject.about, tuple(tables), tuple(faults))
