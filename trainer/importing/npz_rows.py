"""Arrays of an .npz read row by row in blocks: a session's A-lines need not fit into memory at once."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np


class NpzDamaged(ValueError):
    """The file cannot be read, or an array in it is missing, cut off or not of numbers."""


@dataclass(frozen=True)
class RowReader:
    """One array of a file, read from its first row on."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    member: IO[bytes]

    def read(self, rows: int) -> np.ndarray:
        """The next `rows` rows."""
        shape = (rows, *self.shape[1:])
        size = math.prod(shape) * self.dtype.itemsize
        data = self.member.read(size)
        if len(data) != size:
            raise NpzDamaged(f"{self.name} is cut off")
        return np.frombuffer(data, self.dtype).reshape(shape)

    def blocks(self, rows: int) -> Iterator[np.ndarray]:
        """All rows that are left, so many at a time."""
        for first in range(0, self.shape[0], rows):
            yield self.read(min(rows, self.shape[0] - first))


@contextmanager
def open_npz(path: Path, *names: str) -> Iterator[tuple[RowReader, ...]]:
    """The arrays of these names.

    Raises:
        NpzDamaged: see there; also for what turns out only while reading.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            yield tuple(_reader(archive, name) for name in names)
    except (
        OSError,
        EOFError,
        KeyError,
        NotImplementedError,
        RuntimeError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise NpzDamaged(str(error) or type(error).__name__) from None


def _reader(archive: zipfile.ZipFile, name: str) -> RowReader:
    if f"{name}.npy" not in archive.namelist():
        raise NpzDamaged(f"no array {name!r} in it")
    member = archive.open(f"{name}.npy")
    try:
        version = np.lib.format.read_magic(member)
        header = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, fortran, dtype = header(member)
    except ValueError as error:
        raise NpzDamaged(f"{name}: {error}") from None
    if dtype.kind not in "iuf" or not shape or (fortran and len(shape) > 1):
        raise NpzDamaged(f"{name} is no array of numbers, row by row")
    return RowReader(name, shape, dtype, member)
