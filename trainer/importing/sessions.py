"""Finding what there is to import: directories that look like a session, in the order that people number them, and
what tells one recording from another of the same name.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

_DEPTH = 3  # levels below the source, such as DATASET/TASK/SESSION


def by_number(path: Path) -> list[tuple[int, str]]:
    """A sort key in which `episode_10` comes after `episode_2`."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", str(path))]


def find_directories(source: Path, is_one: Callable[[Path], bool], depth: int = _DEPTH) -> Iterator[Path]:
    """`source` itself or directories below it, none within another."""
    if is_one(source):
        yield source
    elif depth:
        for path in sorted(source.iterdir(), key=by_number):
            if path.is_dir() and not path.name.startswith("."):
                yield from find_directories(path, is_one, depth - 1)


def fingerprint(*places: Path) -> str:
    """SHA-256 over names and sizes of the files at and below `places`, wherever they lie; hidden ones do not count."""
    digest = hashlib.sha256()
    for place in places:
        for path in sorted([place, *place.rglob("*")]):
            inside = path.relative_to(place)
            if path.is_file() and not any(part.startswith(".") for part in inside.parts):
                digest.update(f"{inside.as_posix()}\0{path.stat().st_size}\n".encode())
    return digest.hexdigest()


def named(source: Path, sessions: Iterable[Path]) -> dict[str, Path]:
    """Each session by a name of its own that is a plain file name, made from its path below the source."""
    names: dict[str, Path] = {}
    for session in sessions:
        told = session.name if session == source else session.relative_to(source).as_posix()
        plain = re.sub(r"[^A-Za-z0-9._-]+", "_", told.replace("/", "-")).lstrip("._-") or "session"
        name = next(
            name for name in (plain, *(f"{plain}.{n}" for n in range(2, len(names) + 3))) if name not in names
        )
        names[name] = session
    return names
