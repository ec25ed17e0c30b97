"""What the sensors' streams hold, and which of them say nothing."""

from __future__ import annotations

import numpy as np

from policy.normalize import standardize
from trainer.diagnosis.findings import Fault, Measured, figure
from trainer.diagnosis.subject import Subject

_SAMPLES = 10_000  # per sensor; of long streams every so many-th
_STILL = 1e-6  # spread of a channel that says nothing


def stream_rows(subject: Subject, name: str) -> np.ndarray:
    """float32 [N, C]: evenly spread samples of the training episodes' streams, physical units."""
    streams = [
        cache.streams[episode][name].values
        for cache, (episodes, _) in zip(subject.data.caches, subject.data.splits, strict=True)
        for episode in episodes
    ]
    every = max(1, sum(map(len, streams)) // _SAMPLES)
    return np.concatenate([np.asarray(values[::every], np.float32) for values in streams])


def sensors(subject: Subject) -> tuple[Measured | None, list[Fault]]:
    """Raw and as the network gets them, all channels of a sensor together."""
    rows: list[tuple[str, ...]] = []
    faults: list[Fault] = []
    for sensor in subject.spec.sensors:
        raw = stream_rows(subject, sensor.name)
        if not len(raw):
            rows.append((f"{sensor.name} [{sensor.units}]", "no samples", "", "", "", ""))
            faults.append(
                Fault(
                    "empty-sensor",
                    f"no training episode has a sample of {sensor.name}",
                    "sessions that were recorded without the sensor, or whose sensor files were damaged",
                    "record with it, or leave it out: a policy learns to do without it, and would be served with it",
                )
            )
            continue
        unit = standardize(raw, subject.spec.normalization.sensors[sensor.name])
        still = int((np.ptp(raw, axis=0) <= _STILL).sum())
        for told, values in ((f"{sensor.name} [{sensor.units}]", raw), ("  normalised", unit)):
            found = [figure(float(f(values))) for f in (np.mean, np.std, np.min, np.max)]
            rows.append((told, *found, f"{still} of {raw.shape[1]}"))
        if not np.isfinite(raw).all():
            faults.append(
                Fault(
                    "not-finite",
                    f"{int((~np.isfinite(raw)).any(1).sum())} of {len(raw)} samples of {sensor.name} hold NaN or "
                    "infinity",
                    "a recorder that wrote gaps as NaN, or values beyond what 16 bits hold (65,504)",
                    "leave gaps out of the stream, or record in a unit that fits",
                )
            )
        elif still == raw.shape[1]:
            faults.append(
                Fault(
                    "constant-sensor",
                    f"no channel of {sensor.name} ever varies",
                    "a sensor that was not connected, or not recorded",
                    "leave it out, or record again: a policy takes it for present and learns nothing from it",
                )
            )
    columns = ("", "mean", "std", "min", "max", "channels that never vary")
    return (Measured("sensors", columns, tuple(rows)) if rows else None), faults
