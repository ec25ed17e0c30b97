"""Writing a file so that it is either whole under its name or not there at all."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from policy.errors import UsageError


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let `write` fill a temporary neighbour, bring it to the disk, then rename it to `path`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with writable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            sync_directory(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def writable(path: Path, size: int | None = None) -> Iterator[None]:
    """Tell a full disk or a forbidden directory in one line; what was written before stays.

    Args:
        path: the place that is told.
        size: bytes that it needs, where known.
    """
    try:
        yield
    except OSError as error:
        needed = "" if size is None else f"; {size:,} bytes are needed"
        raise UsageError(
            f"{path}: cannot be written ({error.strerror or error}{needed}); make room or choose another place, "
            "then run the same command again"
        ) from error


def write_json_atomically(path: Path, value: Any) -> None:
    """JSON as lerobot formats it; NaN and infinity are refused because they are not JSON."""
    text = json.dumps(value, indent=4, ensure_ascii=False, allow_nan=False)
    write_atomically(path, lambda file: file.write(text.encode()))


def sync_directory(path: Path) -> None:
    """Make a rename survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
