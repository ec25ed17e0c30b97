"""An episode on disk while it happens: a file that only grows, of records that each can be checked.

A record is its length, its CRC-32 and a MessagePack map; the first one says what the episode is, each further one
is a frame, the last one, where the episode was brought to its end, how it ended. Whatever kills the writer, all but
the record it was writing can be read.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import msgpack
import numpy as np

from policy.errors import UsageError

FORMAT = "tinyvla-journal/1"
_HEAD = struct.Struct("<II")  # length of the map, its CRC-32


@dataclass(frozen=True)
class JournalFrame:
    """One camera instant and the commands from then on until the next."""

    period: int  # control periods since the reset
    images: Mapping[str, bytes]  # camera -> JPEG file
    state: np.ndarray  # float32 [D]
    commands: np.ndarray  # float32 [K, A], oldest first
    held: np.ndarray  # bool [K], the receiver held in this period
    sensors: Mapping[str, np.ndarray] = field(default_factory=dict)  # name -> float16 [T, C], oldest first


@dataclass(frozen=True)
class Journal:
    """What could be read of a journal."""

    about: Mapping[str, Any]  # what the writer said of the episode
    frames: list[JournalFrame]


class JournalWriter:
    """Appends to a new file; every record has left this process when the call returns.

    Args:
        path: of the file, which must not exist.
        about: JSON-able facts of the episode.

    Raises:
        OSError: here and in every call, what the disk says.
    """

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self.path = path
        self.frames = self.bytes = 0
        self._file = open(path, "xb", buffering=0)  # noqa: SIM115 - closed by `close`
        try:
            self._append({"format": FORMAT, "about": dict(about)})
        except BaseException:
            self._file.close()
            raise

    def add(self, frame: JournalFrame) -> None:
        """Append one frame."""
        self._append(
            {
                "period": frame.period,
                "images": dict(frame.images),
                "state": frame.state.astype("<f4").tobytes(),
                "commands": frame.commands.astype("<f4").tobytes(),
                "held": np.asarray(frame.held, np.uint8).tobytes(),
                "sensors": {
                    name: [list(window.shape), window.astype("<f2").tobytes()]
                    for name, window in frame.sensors.items()
                },
            }
        )
        self.frames += 1

    def end(self, ending: Mapping[str, Any]) -> None:
        """Say how the episode ended."""
        self._append({"ending": dict(ending)})

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> JournalWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _append(self, record: Mapping[str, Any]) -> None:
        body = msgpack.packb(record)
        left = memoryview(_HEAD.pack(len(body), zlib.crc32(body)) + body)
        self.bytes += len(left)
        while left:  # a raw file may take a part, the last that fits on the disk among them
            left = left[self._file.write(left) :]


def read_journal(path: Path) -> Journal:
    """Everything up to the first record that is not whole.

    Raises:
        UsageError: the file is no journal; one line.
    """
    with open(path, "rb") as file:
        records = _records(file)
        first = next(records, {})
        if first.get("format") != FORMAT:
            raise UsageError(f"{path}: no journal of a recording, or not one record of it is whole")
        frames = [_frame(record) for record in records if "ending" not in record]
    return Journal(first["about"], frames)


def read_ending(path: Path) -> Mapping[str, Any] | None:
    """How the episode ended; None where it was cut off, or went on in another part."""
    with open(path, "rb") as file:
        return next((record["ending"] for record in _records(file) if "ending" in record), None)


def _records(file: BinaryIO) -> Iterator[dict[str, Any]]:
    while len(head := file.read(_HEAD.size)) == _HEAD.size:
        length, crc = _HEAD.unpack(head)
        body = file.read(length)
        # Zeros would pass for records of no length.
        if not body or len(body) < length or zlib.crc32(body) != crc:
            return
        yield msgpack.unpackb(body)


def _frame(record: Mapping[str, Any]) -> JournalFrame:
    held = np.frombuffer(record["held"], np.uint8).astype(bool)
    return JournalFrame(
        period=record["period"],
        images=record["images"],
        state=np.frombuffer(record["state"], "<f4"),
        commands=np.frombuffer(record["commands"], "<f4").reshape(len(held), -1),
        held=held,
        sensors={
            name: np.frombuffer(data, "<f2").reshape(shape)
            for name, (shape, data) in record["sensors"].items()
        },
    )
