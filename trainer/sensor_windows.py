"""Sensor windows of training samples: cut from the streams when a batch asks for them, padded as in serving."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from clients.lerobot_v3 import SensorFacts, SensorStream
from policy.loaded import sensor_input
from policy.spec import MeanStdStats, SensorSpec

# Every so many-th sample counts for the statistics; neighbours say nearly the same.
_STATS_EVERY = 13


def sensor_specs(facts: Mapping[str, SensorFacts], optional: Iterable[str] = ()) -> tuple[SensorSpec, ...]:
    """The sensors of a dataset as a policy's contract has them.

    Args:
        optional: names of those that the policy is trained to do without.
    """
    names = set(optional)
    return tuple(
        SensorSpec(
            name=name,
            channels=f.channels,
            window=f.window,
            rate_hz=f.rate_hz,
            units=f.units,
            optional=name in names,
        )
        for name, f in sorted(facts.items())
    )


def absent_somewhere(streams: Sequence[SensorStream], facts: SensorFacts) -> bool:
    """Whether some frame of these episodes was taken with nothing in the sensor's window."""
    for stream in streams:
        newest = np.searchsorted(stream.times, stream.frame_times, side="right")
        oldest = np.searchsorted(
            stream.times, stream.frame_times - (facts.window + 0.5) / facts.rate_hz, side="right"
        )
        if (newest == oldest).any():
            return True
    return False


def cut_windows(
    facts: Mapping[str, SensorFacts],
    streams: Sequence[Mapping[str, SensorStream]],
    episodes: np.ndarray,
    frames: np.ndarray,
) -> tuple[np.ndarray, ...]:
    """Per sensor, in the order of `sensor_specs`: windows float32 [B, T, C] and masks float32 [B, T].

    Args:
        streams: of every episode.
        episodes: int [B], which episode each sample is of.
        frames: int [B], its frame within the episode.
    """
    arrays: list[np.ndarray] = []
    for spec in sensor_specs(facts):
        pairs = [
            sensor_input(spec, streams[episode][spec.name].window(frame, facts[spec.name]))
            for episode, frame in zip(episodes, frames, strict=True)
        ]
        arrays += [np.stack([window for window, _ in pairs]), np.stack([mask for _, mask in pairs])]
    return tuple(arrays)


def sensor_stats(streams: Sequence[SensorStream]) -> MeanStdStats:
    """Mean and standard deviation per channel over the streams of some episodes; 0 and 1 where none has a sample."""
    count, total, squares = 0, np.zeros(()), np.zeros(())
    for stream in streams:
        rows = np.asarray(stream.values[::_STATS_EVERY], np.float64)
        count += len(rows)
        total = total + rows.sum(0)
        squares = squares + (rows**2).sum(0)
    if count == 0:
        return MeanStdStats(mean=(0.0,) * len(total), std=(1.0,) * len(total))
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0.0))
    return MeanStdStats(mean=tuple(mean.tolist()), std=tuple(std.tolist()))
