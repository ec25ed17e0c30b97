"""`tinyvla diagnose data`: statistics, pairing, order, colours and leaks of the data that are trained on."""

from __future__ import annotations

from trainer.diagnosis.action_statistics import (
    normalised_actions,
    statistics_faults,
    statistics_table,
    training_rows,
)
from trainer.diagnosis.colours import colours
from trainer.diagnosis.findings import Diagnosis
from trainer.diagnosis.frame_order import order_of_frames
from trainer.diagnosis.leaks import leaks
from trainer.diagnosis.pairing import pairing
from trainer.diagnosis.schedule import clip_fault
from trainer.diagnosis.sensor_statistics import sensors
from trainer.diagnosis.subject import Subject


def diagnose(subject: Subject) -> Diagnosis:
    """Everything that can be told without training."""
    spec = subject.spec
    tables = [
        statistics_table(
            "actions", spec.action.names, training_rows(subject, "action"), spec.normalization.action
        ),
        statistics_table(
            "states", spec.state.names, training_rows(subject, "state"), spec.normalization.state
        ),
    ]
    faults = statistics_faults(subject)
    if spec.sampler is not None and "not-normalised" not in {fault.code for fault in faults}:
        clip = clip_fault(spec, normalised_actions(subject))
        faults += [clip] if clip is not None else []
    for table, found in (sensors(subject), order_of_frames(subject), pairing(subject), leaks(subject)):
        tables += [table] if table is not None else []
        faults += found
    more, found = colours(subject)
    windows = f"{len(subject.data.train)} training windows, {len(subject.data.held_out)} held out"
    return Diagnosis(subject.about, tuple(tables + more), tuple(faults + found), (windows,))
