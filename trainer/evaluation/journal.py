"""Results as they come, one JSON line each, so that a killed evaluation goes on where it was."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, TypeVar

from policy.errors import UsageError

Result = TypeVar("Result")


class Journal(Generic[Result]):
    """`with Journal(path, Kind) as journal:` reads what is there and appends.

    Args:
        path: of the `.jsonl` file; its directory exists.
        kind: frozen dataclass of plain values, one object a line.

    Raises:
        UsageError: on entering: another process writes there, or a line of something else, of which none is lost.
    """

    def __init__(self, path: Path, kind: type[Result]) -> None:
        self._path = path
        self._kind = kind

    def __enter__(self) -> Journal[Result]:
        with contextlib.ExitStack() as failed:
            self._file = failed.enter_context(self._path.open("a+b"))
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(
                    f"{self._path.parent}: another process is writing its results there"
                ) from None
            self._file.seek(0)
            whole, newline, cut_off = self._file.read().rpartition(b"\n")
            self.done = list(self._read(whole))
            if cut_off:  # by a kill; what follows must not continue it
                self._file.truncate(len(whole + newline))
            failed.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, result: Result) -> None:
        """Keep a result, on disk before this returns."""
        self.done.append(result)
        self._file.write(_line(result))
        self._file.flush()

    def _read(self, lines: bytes) -> Iterator[Result]:
        for number, line in enumerate(lines.splitlines(), 1):
            try:
                yield self._kind(**json.loads(line))
            except (ValueError, TypeError):
                raise UsageError(
                    f"{self._path}, line {number}: no {self._kind.__name__}; choose another --out, or remove the file"
                ) from None


def _line(result: Any) -> bytes:
    return json.dumps(dataclasses.asdict(result)).encode() + b"\n"
