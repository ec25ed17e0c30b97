"""Results as they come, one JSON line each, so that a killed evaluation goes on where it was."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")


class Journal(Generic[Result]):
    """`with Journal(path, Kind) as journal:` reads what is there and appends.

    Args:
        path: of the `.jsonl` file; its directory exists.
        kind: frozen dataclass of plain values, one object a line.
    """

    def __init__(self, path: Path, kind: type[Result]) -> None:
        self._path = path
        self._kind = kind

    def __enter__(self) -> Journal[Result]:
        self.done = list(self._read())
        # Rewritten whole: what follows is appended and must not continue a half-written line.
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text("".join(map(_line, self.done)))
        temporary.replace(self._path)
        self._file = self._path.open("a")
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

    def _read(self) -> Iterable[Result]:
        if not self._path.exists():
            return
        for line in self._path.read_text().splitlines():
            try:
                yield self._kind(**json.loads(line))
            except (json.JSONDecodeError, TypeError):
                continue  # cut off by a kill


def _line(result: Any) -> str:
    return json.dumps(dataclasses.asdict(result)) + "\n"
